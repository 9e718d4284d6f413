package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// selection tells which tests of a package are to run: patterns for -test.run, one for each run of its binary. All of them: one that is empty.
type selection func(s *suite) []string

func (o *options) selection() (selection, error) {
	if o.skipped == "" {
		return func(*suite) []string { return []string{o.run} }, nil
	}
	skipped, err := readSkipped(o.skipped)
	if err != nil {
		return nil, fmt.Errorf("-skipped: %w", err)
	}
	return func(s *suite) []string {
		if strings.HasPrefix(s.dir, "netutil") { // which all else stands on, and what a kernel can disagree about
			return []string{o.run}
		}
		return patterns(skipped[s.pkg])
	}, nil
}

// parts are the patterns of the package's runs; none: there is nothing to run.
func (s *suite) parts(only selection) []string {
	if slices.Contains(excluded()[s.dir], ".") {
		return nil
	}
	return only(s)
}

// readSkipped reads the names of the tests that were skipped, by package, from events (go doc test2json).
func readSkipped(path string) (map[string][]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	skipped, events := map[string][]string{}, 0
	for dec := json.NewDecoder(bufio.NewReader(f)); dec.More(); events++ {
		var e struct{ Action, Package, Test string }
		if err := dec.Decode(&e); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if e.Action == "skip" && e.Test != "" {
			skipped[e.Package] = append(skipped[e.Package], e.Test)
		}
	}
	if events == 0 {
		return nil, fmt.Errorf("%s: no events", path)
	}
	return skipped, nil
}

// patterns match the tests, and little else: one pattern for all that were skipped whole, and one for the parts of each test, or the parts of its parts.
func patterns(skipped []string) (all []string) {
	type group struct {
		test  string // empty: of those that were skipped whole
		depth int
	}
	names := map[group][][]string{}
	for _, name := range skipped {
		parts := strings.Split(name, "/")
		g := group{parts[0], len(parts)}
		if len(parts) == 1 {
			g.test = ""
		}
		names[g] = append(names[g], parts)
	}
	for g, list := range names {
		elements := make([]string, g.depth)
		for i := range elements {
			var some []string
			for _, parts := range list {
				some = append(some, parts[i])
			}
			elements[i] = anyOf(some)
		}
		all = append(all, strings.Join(elements, "/"))
	}
	slices.Sort(all)
	return all
}

// anyOf is a pattern of names.
func anyOf(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	slices.Sort(quoted)
	return "^(" + strings.Join(slices.Compact(quoted), "|") + ")$"
}
