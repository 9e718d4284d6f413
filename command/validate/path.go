package validate

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// steps takes a key such as ipam.ranges[0][0].subnet apart: ipam, ranges, [0], [0], subnet.
func steps(key string) (out []string) {
	for part := range strings.SplitSeq(key, ".") {
		name, rest, _ := strings.Cut(part, "[")
		if name != "" {
			out = append(out, name)
		}
		for index := range strings.SplitSeq(rest, "[") {
			if index != "" {
				out = append(out, "["+index)
			}
		}
	}
	return out
}

// resolve finds the value of a key. Where there is none, it is what the key should be in, and rest is what is missing. A message that begins with
// the name of something in the value, or tells of its value, is about that: suffix then leads there.
func (n *node) resolve(key, msg string) (found *node, suffix, rest string) {
	all := steps(key)
	for i, step := range all {
		next := n.step(step)
		if next == nil {
			return n, "", strings.Join(all[i:], ".")
		}
		n = next
	}
	word, _, _ := strings.Cut(msg, " ")
	if _, behind, ok := strings.Cut(msg, "value of "); ok {
		word, _, _ = strings.Cut(behind, " ")
	}
	if name, err := strconv.Unquote(word); err == nil {
		word = name
	}
	if v := n.get(word); v != nil {
		if strings.ContainsAny(word, "./[ ") {
			return v, "[" + strconv.Quote(word) + "]", ""
		}
		return v, "." + word, ""
	}
	return n, "", ""
}

func (n *node) step(step string) *node {
	if step[0] != '[' {
		return n.get(step)
	}
	i, err := strconv.Atoi(strings.Trim(step, "[]"))
	if err != nil || i < 0 || i >= len(n.elems) {
		return nil
	}
	return n.elems[i]
}

// encode is the value as text, with other text for those values that without holds. Where that is empty they are left out; elements of lists are
// null then, so that the others keep their numbers.
func (n *node) encode(text []byte, without map[*node]string) []byte {
	other, replaced := without[n]
	var parts [][]byte
	switch {
	case other != "":
		return []byte(other)
	case replaced:
		return []byte("null")
	case n.kind == '{':
		for _, m := range n.members {
			if other, replaced := without[m.value]; replaced && other == "" {
				continue
			}
			if name, err := json.Marshal(m.key); err == nil {
				parts = append(parts, append(append(name, ':'), m.value.encode(text, without)...))
			}
		}
		return append(append([]byte{'{'}, bytes.Join(parts, []byte(","))...), '}')
	case n.kind == '[':
		for _, e := range n.elems {
			parts = append(parts, e.encode(text, without))
		}
		return append(append([]byte{'['}, bytes.Join(parts, []byte(","))...), ']')
	}
	return text[n.pos:n.end]
}
