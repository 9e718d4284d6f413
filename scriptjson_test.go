package main

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// placeholders stand in expected answers for what differs from run to run.
var placeholders = map[string]*regexp.Regexp{
	"<mac>":  regexp.MustCompile(`^([0-9a-f]{2}:){5}[0-9a-f]{2}$`),
	"<veth>": regexp.MustCompile(`^veth[0-9a-v]{11}$`),
}

// differences compares two JSON documents and tells where they differ. An empty dns is the same as none.
func differences(at string, got, want any) []string {
	switch want := want.(type) {
	case map[string]any:
		if got, ok := got.(map[string]any); ok {
			return objectDifferences(at, got, want)
		}
	case []any:
		if got, ok := got.([]any); ok && len(got) == len(want) {
			var out []string
			for i := range want {
				out = append(out, differences(fmt.Sprintf("%s[%d]", at, i), got[i], want[i])...)
			}
			return out
		}
	case string:
		if pattern := placeholders[want]; pattern != nil && pattern.MatchString(fmt.Sprint(got)) {
			return nil
		}
	}
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		return []string{fmt.Sprintf("%s is %s, not %s", at, g, w)}
	}
	return nil
}

func objectDifferences(at string, got, want map[string]any) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if value, ok := got[key]; ok {
			out = append(out, differences(at+"."+key, value, want[key])...)
		} else {
			out = append(out, at+"."+key+" is missing")
		}
	}
	for key, value := range got {
		if dns, ok := value.(map[string]any); ok && key == "dns" && len(dns) == 0 {
			continue
		}
		if _, ok := want[key]; !ok {
			out = append(out, fmt.Sprintf("%s.%s has no place there: %v", at, key, value))
		}
	}
	return out
}

// lookUp finds a value by a path such as "ips[0].address".
func lookUp(document any, path string) (any, bool) {
	for step := range strings.SplitSeq(strings.NewReplacer("[", ".", "]", "").Replace(path), ".") {
		switch d := document.(type) {
		case map[string]any:
			value, ok := d[step]
			if !ok {
				return nil, false
			}
			document = value
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(d) {
				return nil, false
			}
			document = d[i]
		default:
			return nil, false
		}
	}
	return document, true
}
