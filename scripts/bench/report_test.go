package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		all    []time.Duration
		share  float64
		expect time.Duration
	}{
		{nil, 0.5, 0},
		{[]time.Duration{7}, 0.5, 7},
		{[]time.Duration{7}, 0.9, 7},
		{[]time.Duration{30, 10, 20}, 0.5, 20},
		{[]time.Duration{40, 10, 30, 20}, 0.5, 25},
		{[]time.Duration{100, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90}, 0.9, 90},
		{[]time.Duration{20, 10}, 1, 20},
	} {
		if got := quantile(test.all, test.share); got != test.expect {
			t.Errorf("quantile(%v, %v) = %d, want %d", test.all, test.share, got, test.expect)
		}
	}
}

// measured is a report of two contenders, whose samples come as in a run: round after round, another one first in each.
func measured() *report {
	r := newReport(newProgress())
	const ms = time.Millisecond
	for i, verb := range []string{"DEL", "ADD", "CHECK"} {
		for _, existing := range []int{1, 1000} {
			for _, factor := range []time.Duration{1, 2, 3} {
				at := time.Duration(i+1) * factor * ms
				if verb != "CHECK" {
					r.add(key{masquerade, existing, 1, verb, floor}, sample{at / 2, at / 4})
				}
				r.add(key{masquerade, existing, 1, verb, refNftables}, sample{8 * at, 4 * at})
				r.add(key{masquerade, existing, 1, verb, cnibox}, sample{at, at / 2})
			}
		}
	}
	return r
}

func TestRows(t *testing.T) {
	t.Parallel()
	rows := measured().rows()
	var order []string
	for _, r := range rows {
		if r.Existing == 1 {
			order = append(order, r.Operation+" "+r.Contender)
		}
	}
	want := []string{
		"ADD cnibox", "ADD reference nftables", "ADD floor", "CHECK cnibox", "CHECK reference nftables",
		"DEL cnibox", "DEL reference nftables", "DEL floor",
	}
	if !slices.Equal(order, want) {
		t.Errorf("the rows come as %q, want %q", order, want)
	}
	ref := rows[1]
	if ref.Samples != 3 || ref.Median != 32 || ref.P90 != 44.8 || ref.CPU != 16 || ref.ToCnibox != 8 || ref.CPUToCnibox != 8 {
		t.Errorf("the reference's ADD is %+v", ref)
	}
	if rows[2].ToCnibox != 0.5 {
		t.Errorf("the floor's ADD is %+v", rows[2])
	}
}

// Without cnibox there is no ratio.
func TestRowsWithoutCnibox(t *testing.T) {
	t.Parallel()
	r := newReport(newProgress())
	r.add(key{"VERSION", 0, 1, "VERSION", nothing}, sample{time.Millisecond, 0})
	line := strings.Split(table(r.rows()), "\n")[1]
	if got := strings.Fields(line); !slices.Equal(got[4:], []string{"nothing", "1.00", "1.00", "-", "-", "-", "-"}) {
		t.Errorf("the line is %q", line)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSpace(table(measured().rows())), "\n")
	if len(lines) != 1+16 {
		t.Fatalf("%d lines, want a head and 16 rows:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	at := strings.Index(lines[0], "contender")
	for _, line := range lines[1:] {
		if line[at-1] != ' ' || line[at] == ' ' {
			t.Errorf("not aligned: %q", line)
		}
	}
	if got := strings.Join(strings.Fields(lines[3]), " "); got != "floor 2.00 2.80 1.00 0.5000 0.5000 2.00" {
		t.Errorf("the floor's line is %q", got)
	}
	if strings.Count(strings.Join(lines, "\n"), masquerade) != 6 {
		t.Error("each group is named once")
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	lines := strings.Split(strings.TrimSpace(verdicts(measured().rows())), "\n")
	var got []string
	for _, line := range lines {
		fields := strings.Fields(line)
		got = append(got, strings.Join(fields[len(fields)-5:], " "))
	}
	want := []string{
		"8.00 at least 6.00 met",    // ADD at 1
		"8.00 at least 11.0 missed", // ADD at 1000
		"2.00 at most 1.50 missed",  // to the floor
		"2.00 at most 1.50 missed",
		"8.00 at least 4.00 met", // DEL at 1
		"8.00 at least 8.00 met",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the verdicts are %q, want %q", got, want)
	}
}

func TestPicture(t *testing.T) {
	t.Parallel()
	rows := measured().rows()
	rows[0].Case = "a < b & c"
	decoder := xml.NewDecoder(strings.NewReader(picture(rows)))
	bars := map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the picture is not XML: %v", err)
		}
		element, ok := token.(xml.StartElement)
		if !ok || element.Name.Local != "rect" {
			continue
		}
		for _, attr := range element.Attr {
			if attr.Name.Local == "class" {
				bars[attr.Value]++
			}
		}
	}
	if bars["cnibox"] != 2 || bars["reference"] != 2 || bars["floor"] != 2 {
		t.Errorf("the bars are %v, want two ADDs of each", bars)
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "folder")
	r := measured()
	r.Notes = []string{"something was left out"}
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var figures struct {
		Machine map[string]string
		Rows    []row
		Notes   []string
	}
	if err := json.Unmarshal(raw, &figures); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(figures.Rows, r.rows()) || figures.Machine["kernel"] == "" || !slices.Equal(figures.Notes, r.Notes) {
		t.Errorf("the figures are %+v", figures)
	}
	if err := newReport(newProgress()).write(dir); err == nil {
		t.Error("a run that measured nothing is a success")
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	quick, err := parse([]string{"-quick"})
	if err != nil || !slices.Equal(quick.pods, []int{1, 100}) || quick.rounds != 5 {
		t.Errorf("-quick is %+v, %v", quick, err)
	}
	full, err := parse([]string{"-cases", "^ptp", "-pods", "1,7"})
	if err != nil || !slices.Equal(full.pods, []int{1, 7}) || !full.cases.MatchString("ptp, IPv6") || full.cases.MatchString("bridge") {
		t.Errorf("%+v, %v", full, err)
	}
	for _, bad := range [][]string{{"-pods", "100,1"}, {"-pods", "x"}, {"-cases", "("}, {"-contenders", "("}} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}
