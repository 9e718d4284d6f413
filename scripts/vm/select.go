package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
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

// patterns match the tests: one for all that were skipped whole, and one for each test of which parts were.
func patterns(skipped []string) (all []string) {
	parts := map[string][]string{}
	for _, name := range skipped {
		test, part, _ := strings.Cut(name, "/")
		part, _, _ = strings.Cut(part, "/") // what is below runs with it
		parts[test] = append(parts[test], part)
	}
	var whole []string
	for _, test := range slices.Sorted(maps.Keys(parts)) {
		if slices.Contains(parts[test], "") {
			whole = append(whole, test)
			continue
		}
		all = append(all, anyOf(test)+"/"+anyOf(parts[test]...))
	}
	if len(whole) > 0 {
		all = append(all, anyOf(whole...))
	}
	return all
}

// anyOf is a pattern of names.
func anyOf(names ...string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	slices.Sort(quoted)
	return "^(" + strings.Join(slices.Compact(quoted), "|") + ")$"
}
