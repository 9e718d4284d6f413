package nstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Leaks lists what attachments have left in the namespace, an object a line: links, rules, elements of nftables sets and maps, and records. The
// loopback interface, the links to keep, and static tables and chains are no leaks.
func (n *NS) Leaks(keep ...string) ([]string, error) {
	var leaks []string
	err := n.Do(func() error {
		for _, find := range []func() ([]string, error){func() ([]string, error) { return links(keep) }, rules, elements, records} {
			found, err := find()
			if err != nil {
				return err
			}
			leaks = append(leaks, found...)
		}
		return nil
	})
	return leaks, err
}

// records are the files that the host's plugins keep for attachments.
func records() (out []string, err error) {
	err = filepath.WalkDir("/run/cnibox", func(path string, f fs.DirEntry, err error) error {
		if err == nil && !f.IsDir() {
			out = append(out, "record "+path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return out, err
}

// links are the links of the calling thread's namespace.
func links(keep []string) ([]string, error) {
	all, err := net.Interfaces()
	var out []string
	for _, l := range all {
		if l.Flags&net.FlagLoopback == 0 && !slices.Contains(keep, l.Name) {
			out = append(out, "interface "+l.Name)
		}
	}
	return out, err
}

// rules are the routing rules of the calling thread's namespace, but for the kernel's own.
func rules() ([]string, error) {
	var out []string
	for _, family := range []string{"-4", "-6"} {
		raw, err := exec.Command("ip", family, "rule").CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("ip %s rule: %w: %s", family, err, raw)
		}
		for line := range strings.Lines(string(raw)) {
			priority, _, _ := strings.Cut(line, ":")
			vrfs := strings.Contains(line, "l3mdev-table") // comes with the namespace's first VRF, and stays
			if !vrfs && !slices.Contains([]string{"0", "32766", "32767"}, priority) {
				out = append(out, "rule "+strings.TrimSpace(line))
			}
		}
	}
	return out, nil
}

// elements are the elements of all nftables sets and maps of the calling thread's namespace.
func elements() ([]string, error) {
	raw, err := exec.Command("nft", "-j", "list", "ruleset").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("nft list ruleset: %w: %s", err, raw)
	}
	type set struct {
		Table string            `json:"table"`
		Name  string            `json:"name"`
		Elem  []json.RawMessage `json:"elem"`
	}
	var ruleset struct {
		Objects []struct{ Set, Map *set } `json:"nftables"`
	}
	if err := json.Unmarshal(raw, &ruleset); err != nil {
		return nil, fmt.Errorf("nft list ruleset: %w: %s", err, raw)
	}
	var out []string
	for _, o := range ruleset.Objects {
		s := o.Set
		if s == nil {
			s = o.Map
		}
		if s == nil {
			continue
		}
		for _, e := range s.Elem {
			out = append(out, fmt.Sprintf("element of %s %s: %s", s.Table, s.Name, e))
		}
	}
	return out, nil
}

// Descriptors are the file descriptors that the process has open, each with what it leads to. Tests that compare them must not run in
// parallel to others.
func Descriptors() ([]string, error) {
	const dir = "/proc/self/fd/"
	entries, err := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		if target, err := os.Readlink(dir + e.Name()); err == nil { // not the one that was read from
			out = append(out, e.Name()+" "+target)
		}
	}
	return out, err
}
