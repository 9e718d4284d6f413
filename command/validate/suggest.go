package validate

import "strings"

// nearest is the word that somebody may have meant: the one that takes the fewest changes, if they are few for its length. Empty if there is none.
func nearest(word string, words []string) string {
	best, least := "", 0
	for _, w := range words {
		if w == word {
			continue
		}
		d := distance(strings.ToLower(word), strings.ToLower(w))
		if d <= most(word, w) && (best == "" || d < least) {
			best, least = w, d
		}
	}
	return best
}

// most is how many changes are believed to be a slip.
func most(a, b string) int {
	switch n := min(len(a), len(b)); {
	case n < 3:
		return 0
	case n < 6:
		return 1
	case n < 8:
		return 2
	}
	return 3
}

// distance is how many letters are to be changed, put in, taken out or swapped with their neighbour to come from a to b.
func distance(a, b string) int {
	const longest = 64 // no name of a key is
	if len(a) > longest || len(b) > longest {
		return longest
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range b {
		rows[0][j+1] = j + 1
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
