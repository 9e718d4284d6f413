package gc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Living are the sandboxes that there are, by what a runtime calls them.
type Living struct {
	Of    string    // where the list is from, for people
	Taken time.Time // when: what is newer is not in it

	ids   map[string][]string // container ID -> its interfaces; nil: all
	short []string            // beginnings of IDs, as `docker ps` prints them
}

// NewLiving is an empty list.
func NewLiving(of string) *Living {
	return &Living{Of: of, Taken: time.Now(), ids: map[string][]string{}}
}

// Lengths of container IDs, in characters: of whole ones, and of those that clients print for people.
const (
	wholeID    = 64
	shortestID = 12
)

// add adds a sandbox; without an interface, with all that it may have.
func (l *Living) add(id, ifName string) {
	if id == "" {
		return
	}
	had, known := l.ids[id]
	switch {
	case ifName == "" || known && had == nil:
		l.ids[id] = nil
	default:
		l.ids[id] = append(had, ifName)
	}
	if len(id) >= shortestID && len(id) < wholeID && !known {
		l.short = append(l.short, id)
	}
}

// Len is how many there are.
func (l *Living) Len() int { return len(l.ids) }

// Has tells whether an attachment is of a sandbox of the list. The interface may be empty: not known.
func (l *Living) Has(id, ifName string) bool {
	if names, ok := l.ids[id]; ok {
		return names == nil || ifName == "" || slices.Contains(names, ifName)
	}
	return slices.ContainsFunc(l.short, func(s string) bool { return strings.HasPrefix(id, s) })
}

// mayBe tells whether the beginning of a container ID could be that of a sandbox of the list.
func (l *Living) mayBe(begin string) bool {
	for id := range l.ids {
		if strings.HasPrefix(id, begin) || strings.HasPrefix(begin, id) {
			return true
		}
	}
	return false
}

// mostList bounds a list, in bytes.
const mostList = 64 << 20

// ErrNoneLiving is that a list has nobody in it: then everything would go.
var ErrNoneLiving = errors.New("the list is empty, so nothing would be living; --none-living says that this is so")

// Read reads a list: container IDs, one a line, with an interface behind each if it is for that one only; or JSON, as `crictl pods -o json`,
// `podman ps -a --format json` and `docker ps -a --format json` print it, a list of IDs, or one of objects with containerID and ifname.
func Read(of string, r io.Reader) (*Living, error) {
	text, err := io.ReadAll(io.LimitReader(r, mostList+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", of, err)
	}
	if len(text) > mostList {
		return nil, fmt.Errorf("%s: it is longer than %d bytes", of, mostList)
	}
	l := NewLiving(of)
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && (trimmed[0] == '[' || trimmed[0] == '{') {
		err = l.readJSON(trimmed)
	} else {
		err = l.readLines(string(text))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", of, err)
	}
	return l, nil
}

func (l *Living) readLines(text string) error {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line, _, _ = strings.Cut(line, "#")
		switch words := strings.Fields(line); len(words) {
		case 0:
		case 1:
			l.add(words[0], "")
		case 2:
			l.add(words[0], words[1])
		default:
			return fmt.Errorf("line %d: want a container ID, and at most an interface behind it", n)
		}
	}
	return nil
}

// readJSON reads one value, or several one behind the other.
func (l *Living) readJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		var v any
		switch err := d.Decode(&v); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("it is not JSON: %w", err)
		}
		if err := l.readValue(v); err != nil {
			return err
		}
	}
}

// readValue reads a sandbox, or a list of them. What could be one and cannot be read is an error: left out, it would be taken for dead.
func (l *Living) readValue(v any) error {
	switch v := v.(type) {
	case string:
		l.add(v, "")
		return nil
	case []any:
		for _, e := range v {
			if err := l.readValue(e); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		if items, ok := v["items"]; ok { // crictl
			if items == nil {
				return nil
			}
			return l.readValue(items)
		}
		if id := stringOf(v, "containerID", "containerId", "ContainerID", "id", "Id", "ID"); id != "" {
			l.add(id, stringOf(v, "ifname", "ifName"))
			return nil
		}
		return errors.New("an object has no container ID: want containerID, id, Id or ID, or a list as items")
	}
	return fmt.Errorf("%v is no container ID", v)
}

// stringOf is the first of the keys that holds a text.
func stringOf(object map[string]any, keys ...string) string {
	for _, k := range keys {
		if s, ok := object[k].(string); ok && s != "" {
			return s
		}
	}
	return ""
}
