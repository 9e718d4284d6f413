package validate

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// node is a JSON value and where it stands. Package json tells neither that nor keys that are there twice.
type node struct {
	kind     byte // '{', '[', '"', '0' for a number, 't' for a boolean, 'n' for null
	pos, end int  // bytes from the beginning of the text
	text     string
	members  []member
	elems    []*node
}

type member struct {
	key   string
	pos   int
	value *node
}

// get is the value of a key as package json finds it: of this very name, or else of this name in other letter case; the last if there are
// several. nil if there is none.
func (n *node) get(key string) *node {
	var exact, folded *node
	for _, m := range n.members {
		switch {
		case m.key == key:
			exact = m.value
		case strings.EqualFold(m.key, key):
			folded = m.value
		}
	}
	if exact != nil {
		return exact
	}
	return folded
}

// str is the value of a key that is a string; empty if it is none.
func (n *node) str(key string) string {
	if v := n.get(key); v != nil && v.kind == '"' {
		return v.text
	}
	return ""
}

// isTrue tells whether the key is there and true.
func (n *node) isTrue(key string) bool {
	v := n.get(key)
	return v != nil && v.text == "true"
}

// describe is the kind of a value in the words of package json.
func (n *node) describe() string {
	switch n.kind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case 't':
		return "a boolean"
	}
	return "null"
}

// syntaxError is what makes a text no JSON.
type syntaxError struct {
	pos int
	msg string
}

func (e *syntaxError) Error() string { return e.msg }

// mostDepth bounds objects and lists in one another.
const mostDepth = 1000

// parse reads a text that is one JSON value.
func parse(text []byte) (*node, error) {
	p := &parser{text: text}
	if strings.HasPrefix(string(text[:min(3, len(text))]), "\ufeff") {
		return nil, p.fail(0, "the file begins with a byte order mark, which JSON does not have")
	}
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.pos < len(text) {
		return nil, p.fail(p.pos, "%s behind the end of the configuration", p.here())
	}
	return n, nil
}

type parser struct {
	text []byte
	pos  int
}

func (p *parser) fail(pos int, format string, args ...any) error {
	return &syntaxError{pos, fmt.Sprintf(format, args...)}
}

func (p *parser) space() {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
}

// peek is the byte that is next behind space; 0 at the end.
func (p *parser) peek() byte {
	p.space()
	if p.pos == len(p.text) {
		return 0
	}
	return p.text[p.pos]
}

// here tells what stands at the position.
func (p *parser) here() string {
	if p.pos >= len(p.text) {
		return "the end of the file"
	}
	rest := p.text[p.pos:]
	if rest[0] == '/' || rest[0] == '#' {
		return "a comment, which JSON does not have,"
	}
	r, size := utf8.DecodeRune(rest)
	if r == utf8.RuneError && size == 1 {
		return fmt.Sprintf("the byte 0x%02x", rest[0])
	}
	return fmt.Sprintf("%q", r)
}

func (p *parser) value(depth int) (*node, error) {
	if depth > mostDepth {
		return nil, p.fail(p.pos, "more than %d objects and lists in one another", mostDepth)
	}
	c := p.peek()
	n := &node{pos: p.pos}
	var err error
	switch {
	case c == '{':
		err = p.object(n, depth)
	case c == '[':
		err = p.list(n, depth)
	case c == '"':
		n.kind = c
		n.text, err = p.str()
	case c == '-' || '0' <= c && c <= '9':
		n.kind = '0'
		err = p.word(n)
	case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
		err = p.word(n)
	default:
		return nil, p.fail(p.pos, "%s where a value belongs", p.here())
	}
	n.end = p.pos
	return n, err
}

// word reads a number, true, false or null.
func (p *parser) word(n *node) error {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n,:{}[]\"", p.text[p.pos]) < 0 {
		p.pos++
	}
	n.text = string(p.text[n.pos:p.pos])
	if json.Valid([]byte(n.text)) {
		if n.kind != '0' {
			n.kind = n.text[0]
		}
		if n.kind == 'f' {
			n.kind = 't'
		}
		return nil
	}
	if lower := strings.ToLower(n.text); lower == "true" || lower == "false" || lower == "null" || lower == "none" {
		return p.fail(n.pos, "%.40q is no JSON; it knows true, false and null", n.text)
	}
	if n.kind == '0' {
		return p.fail(n.pos, "%.40q is no number; addresses and the like are strings, in quotation marks", n.text)
	}
	return p.fail(n.pos, "%.40q where a value belongs; strings are in quotation marks", n.text)
}

func (p *parser) list(n *node, depth int) error {
	n.kind = '['
	p.pos++
	if p.peek() == ']' {
		p.pos++
		return nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.elems = append(n.elems, v)
		done, err := p.next(n, ']')
		if err != nil || done {
			return err
		}
	}
}

func (p *parser) object(n *node, depth int) error {
	n.kind = '{'
	p.pos++
	if p.peek() == '}' {
		p.pos++
		return nil
	}
	for {
		if p.peek() != '"' {
			return p.fail(p.pos, "%s where a key in quotation marks belongs", p.here())
		}
		m := member{pos: p.pos}
		var err error
		if m.key, err = p.str(); err != nil {
			return err
		}
		if p.peek() != ':' {
			return p.fail(p.pos, "%s where the colon behind the key %q belongs", p.here(), m.key)
		}
		p.pos++
		if m.value, err = p.value(depth + 1); err != nil {
			return err
		}
		n.members = append(n.members, m)
		done, err := p.next(n, '}')
		if err != nil || done {
			return err
		}
	}
}

// next reads what stands between two elements, or the end of all.
func (p *parser) next(n *node, end byte) (done bool, err error) {
	behind := p.pos
	switch c := p.peek(); c {
	case end:
		p.pos++
		return true, nil
	case ',':
		comma := p.pos
		p.pos++
		if p.peek() == end {
			return false, p.fail(comma, "a comma behind the last element")
		}
		return false, nil
	case '"', '{', '[':
		return false, p.fail(behind, "a comma is missing before %s", p.here())
	case 0:
		return false, p.fail(n.pos, "this %c is never closed", n.kind)
	}
	return false, p.fail(p.pos, "%s where a comma or %c belongs", p.here(), end)
}

// str reads a string.
func (p *parser) str() (string, error) {
	start := p.pos
	for p.pos++; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; {
		case c == '"':
			p.pos++
			return p.unquote(start)
		case c == '\\':
			p.pos++
		case c == '\n' || c == '\r':
			return "", p.fail(start, "the string has no quotation mark at its end")
		case c < ' ':
			return "", p.fail(p.pos, "the control character 0x%02x in a string", c)
		}
	}
	return "", p.fail(start, "the string has no quotation mark at its end")
}

func (p *parser) unquote(start int) (s string, err error) {
	raw := p.text[start:p.pos]
	if !utf8.Valid(raw) {
		return "", p.fail(start, "the string is no UTF-8")
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return "", p.fail(start+max(int(syntax.Offset)-1, 0), "%s; a backslash is written twice", strings.TrimPrefix(err.Error(), "json: "))
		}
		return "", p.fail(start, "%v", err)
	}
	return s, nil
}
