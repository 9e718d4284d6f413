package nft_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
)

// plugin does something as a plugin on the host would, which keeps records.
func (h *host) plugin(do func(t *nft.Tables) error) {
	h.t.Helper()
	err := h.Do(func() error {
		n, err := netutil.Current()
		if err != nil {
			return err
		}
		defer n.Close()
		return do(netutil.NFT(n))
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// restorable is a node with attachments of each kind, and what is listed of it.
func restorable(t *testing.T) (h *host, all map[owner.Owner][]nft.Entry, listed []string) {
	t.Helper()
	h, all = newHost(t), map[owner.Owner][]nft.Entry{}
	one := pod("4b1f")
	all[one] = everything(one)
	for i := range 3 {
		a := fmt.Sprintf("10.2.0.%d", i+2)
		all[pod("other"+a)] = []nft.Entry{masq(a, "10.2.0.0/24"), tcp(uint16(9000+i), a, 80), snat(a, "10.2.0.0/24")}
	}
	for o, entries := range all {
		h.plugin(func(t *nft.Tables) error { return t.Add(o, entries) })
	}
	return h, all, h.sorted()
}

// sorted are the lines of the listing: the order of elements, sets and subnets follows that of their making. Chains of conditions have a
// number in their names that nothing depends on.
func (h *host) sorted() []string {
	lines := strings.Split(h.list(), "\n")
	for i, l := range lines {
		lines[i] = strings.Trim(strings.TrimPrefix(strings.TrimSuffix(l, " }"), "elements = { "), ",")
	}
	slices.Sort(lines)
	return lines
}

func (h *host) wantSame(listed []string, when string) {
	h.t.Helper()
	if now := h.sorted(); !slices.Equal(now, listed) {
		h.t.Errorf("%s:\n%s\nbefore:\n%s", when, strings.Join(now, "\n"), strings.Join(listed, "\n"))
	}
}

// Whatever was flushed or deleted comes back by Restore.
func TestRestore(t *testing.T) {
	h, all, listed := restorable(t)
	for _, spoil := range []string{
		"flush ruleset", "delete table inet cnibox", "delete table bridge cnibox", "flush table inet cnibox", "flush chain inet cnibox leaving",
		"flush set inet cnibox pods_ipv4-10.244.0.0/16-cni0", "flush map inet cnibox ports_ipv4; flush set inet cnibox journal",
	} {
		h.Run("nft", spoil)
		h.plugin(func(tables *nft.Tables) error { done, err := tables.Restore(); t.Log(done); return err })
		h.wantSame(listed, "after "+spoil+" and Restore")
	}
	h.plugin(func(tables *nft.Tables) error {
		done, err := tables.Restore()
		if len(done) != 0 {
			t.Errorf("restored with nothing missing: %v", done)
		}
		return err
	})
	for o, entries := range all {
		if err := h.tables().Verify(o, entries); err != nil {
			t.Errorf("%s: %v", o, err)
		}
	}
}

// The next operation of any kind brings all of it back when the tables are gone, that of an attachment without entries included.
func TestNextOperationRestores(t *testing.T) {
	next, entries := pod("next"), []nft.Entry{masq("10.3.0.2", "10.3.0.0/24")}
	for name, op := range map[string]struct{ do, after func(t *nft.Tables) error }{
		"ADD":                              {func(t *nft.Tables) error { return t.Add(next, entries) }, func(t *nft.Tables) error { return t.Delete(next, nft.Masquerade) }},
		"DEL":                              {func(t *nft.Tables) error { return t.Delete(next, nft.Masquerade) }, nil},
		"GC":                               {func(t *nft.Tables) error { return t.GC("mynet", nft.PortMap, func(string) bool { return true }) }, nil},
		"no entries":                       {func(t *nft.Tables) error { return t.Heal() }, nil},
		"DEL of one in the bridge's table": {func(t *nft.Tables) error { return t.Delete(next, nft.SpoofCheck) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h, _, listed := restorable(t)
			h.Run("nft", "flush", "ruleset")
			h.plugin(op.do)
			if op.after != nil {
				h.plugin(op.after)
			}
			h.wantSame(listed, "after "+name)
		})
	}
}

// What was taken back does not return.
func TestDeletedIsNotRestored(t *testing.T) {
	h, all, _ := restorable(t)
	for o := range all {
		if o.ContainerID == "4b1f" {
			h.plugin(func(tables *nft.Tables) error { return tables.Delete(o, features()...) })
		}
	}
	h.plugin(func(tables *nft.Tables) error {
		var errs []error
		for _, f := range features() {
			errs = append(errs, tables.GC("mynet", f, func(string) bool { return false }))
		}
		return errors.Join(errs...)
	})
	h.Run("nft", "flush", "ruleset")
	h.plugin(func(tables *nft.Tables) error {
		done, err := tables.Restore()
		if len(done) > 0 {
			t.Errorf("restored %v", done)
		}
		return err
	})
	if leaks, err := h.Leaks(); err != nil || len(leaks) > 0 {
		t.Errorf("left: %v, %v", leaks, err)
	}
}

// A host port that somebody else has got meanwhile stays his, and the rest is restored.
func TestRestoreYieldsToWhoCameLater(t *testing.T) {
	h, o := newHost(t), pod("one")
	h.plugin(func(tables *nft.Tables) error { return tables.Add(o, []nft.Entry{tcp(80, "10.1.0.5", 80)}) })
	h.plugin(func(tables *nft.Tables) error { return tables.Add(pod("three"), []nft.Entry{tcp(81, "10.1.0.7", 80)}) })
	h.Run("nft", "flush", "ruleset")
	h.add(pod("two"), tcp(80, "10.1.0.6", 80)) // by a program that keeps no records
	h.plugin(func(tables *nft.Tables) error {
		done, err := tables.Restore()
		if len(done) != 2 {
			t.Errorf("restored %v", done)
		}
		for _, r := range done {
			if (r.Owner == o) != (r.Err != nil) || r.Err != nil && !strings.Contains(r.Err.Error(), "mynet/two/eth0") {
				t.Errorf("restored %v", r)
			}
		}
		return err
	})
}

// Where no record can be written, nothing is added.
func TestAddWithoutRecordIsUndone(t *testing.T) {
	h := newHost(t)
	if err := os.WriteFile(filepath.Join(h.RunDir, "cnibox"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.plugin(func(tables *nft.Tables) error {
		if err := tables.Add(pod("one"), []nft.Entry{masq("10.1.0.5", "10.1.0.0/24")}); err == nil {
			t.Error("it succeeds")
		}
		return nil
	})
	if strings.Contains(h.list(), "elements") {
		t.Errorf("left:\n%s", h.list())
	}
}

// A DEL that could not remove the record has removed all else. GC removes the record; else Restore would bring back what nobody has any more.
func TestGCRemovesALoneRecord(t *testing.T) {
	h := newHost(t)
	o, stays := pod("one"), pod("stays")
	h.plugin(func(tables *nft.Tables) error {
		return errors.Join(tables.Add(stays, []nft.Entry{masq("10.1.0.6", "10.1.0.0/24")}), tables.Add(o, []nft.Entry{masq("10.1.0.5", "10.1.0.0/24")}))
	})
	records, err := filepath.Glob(filepath.Join(h.RunDir, "cnibox/filter/*/inet", o.LinkName()+".*"))
	if err != nil || len(records) != 1 {
		t.Fatalf("records: %v, %v", records, err)
	}
	text, err := os.ReadFile(records[0])
	if err != nil {
		t.Fatal(err)
	}
	h.plugin(func(tables *nft.Tables) error { return tables.Delete(o, nft.Masquerade) })
	if err := os.WriteFile(records[0], text, 0o600); err != nil {
		t.Fatal(err)
	}
	h.plugin(func(tables *nft.Tables) error {
		return tables.GC("mynet", nft.Masquerade, func(link string) bool { return link == stays.LinkName() })
	})
	h.plugin(func(tables *nft.Tables) error {
		_, err := tables.Restore()
		return err
	})
	if list := h.list(); strings.Contains(list, "10.1.0.5") || !strings.Contains(list, "10.1.0.6") {
		t.Errorf("listed:\n%s", list)
	}
}
