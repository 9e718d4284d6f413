package nft_test

import (
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
)

func (h *host) attach(o owner.Owner, entries ...nft.Entry) {
	h.t.Helper()
	h.plugin(func(t *nft.Tables) error { return t.Add(o, entries) })
}

func (h *host) detach(o owner.Owner) {
	h.t.Helper()
	h.plugin(func(t *nft.Tables) error { return t.Delete(o, features()...) })
}

func (h *host) restore() (done []nft.Restored) {
	h.t.Helper()
	h.plugin(func(t *nft.Tables) (err error) {
		done, err = t.Restore()
		return err
	})
	return done
}

// A runtime tells the ports of a container to each of its networks: podman run --network a,b --publish. Each port leads to one of them, and
// to another when that one is gone.
func TestPortsOfAContainerInSeveralNetworks(t *testing.T) {
	when := func(e nft.PortEntry) nft.PortEntry {
		e.Conditions = []nft.Condition{{Key: "mark", Value: "1"}}
		return e
	}
	for _, tt := range []struct {
		name string
		port func(nft.PortEntry) nft.PortEntry
	}{
		{"without conditions", func(e nft.PortEntry) nft.PortEntry { return e }},
		{"with conditions", when},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHost(t)
			h.attach(pod("other"), tcp(79, "10.9.0.9", 79))
			before := h.list()
			owners := []owner.Owner{
				{Network: "a", ContainerID: "one", IfName: "eth0"},
				{Network: "b", ContainerID: "one", IfName: "eth1"},
				{Network: "c", ContainerID: "one", IfName: "eth2"},
			}
			addrs := []string{"10.1.0.5", "10.2.0.5", "10.3.0.5"}
			entries := make([][]nft.Entry, len(owners))
			for i, a := range addrs {
				subnet := a[:len(a)-1] + "0/24"
				entries[i] = []nft.Entry{tt.port(tcp(80, a, 8080)), tt.port(tcp(81, a, 8081)), snat(a, subnet), masq(a, subnet)}
				h.attach(owners[i], entries[i]...)
			}
			leadsTo := func(when string, i int) {
				t.Helper()
				for _, a := range addrs {
					want := map[bool]int{true: 2}[a == addrs[i]]
					if tt.name == "with conditions" {
						if got := strings.Count(h.list(), "dnat ip to "+a+":"); got != want {
							t.Errorf("%s: %d chains lead to %s, not %d:\n%s", when, got, a, want, h.list())
						}
					} else if got := strings.Count(h.Run("nft", "list", "map", "inet", "cnibox", "ports_ipv4"), ": "+a+" . "); got != want {
						t.Errorf("%s: %d ports lead to %s, not %d", when, got, a, want)
					}
				}
			}
			verify := func(when string, attached ...int) {
				t.Helper()
				for _, i := range attached {
					if err := h.tables().Verify(owners[i], entries[i]); err != nil {
						t.Errorf("%s: verify %s: %v", when, owners[i], err)
					}
				}
			}
			leadsTo("first", 0)
			verify("first", 0, 1, 2)
			wantCode(t, h.tables().Add(owners[1], entries[1][:1]), errcode.AlreadyExists, "b/one/eth1")
			wantCode(t, h.tables().Add(pod("two"), []nft.Entry{tcp(80, "10.1.0.6", 80)}), errcode.PortBusy, "80/tcp is held by a/one/eth0")

			h.detach(owners[1])
			leadsTo("without the second", 0)
			h.attach(owners[1], entries[1]...)
			h.detach(owners[0])
			leads := 1
			if !strings.Contains(h.list(), addrs[1]+" . 8080") && !strings.Contains(h.list(), addrs[1]+":8080") {
				leads = 2
			}
			leadsTo("without the first", leads)
			verify("without the first", 1, 2)
			h.Run("nft", "flush", "ruleset")
			h.restore()
			verify("after a flush", 1, 2)
			if done := h.restore(); len(done) > 0 {
				t.Errorf("what stands was restored again: %v", done)
			}
			h.detach(owners[leads])
			leadsTo("alone", 3-leads)
			verify("alone", 3-leads)
			h.detach(owners[3-leads])
			if after := h.list(); after != before {
				t.Errorf("after:\n%s\nbefore:\n%s", after, before)
			}
			if leaks, err := h.Leaks(); err != nil || len(leaks) != 3 { // an element, its journal, its record
				t.Errorf("left over: %q (%v)", leaks, err)
			}
		})
	}
}

// GC of one network hands the ports over too.
func TestGCHandsPortsOver(t *testing.T) {
	h := newHost(t)
	one, two := owner.Owner{Network: "a", ContainerID: "one", IfName: "eth0"}, owner.Owner{Network: "b", ContainerID: "one", IfName: "eth1"}
	h.attach(one, tcp(80, "10.1.0.5", 8080))
	h.attach(two, tcp(80, "10.2.0.5", 8080))
	h.plugin(func(t *nft.Tables) error { return t.GC("a", nft.PortMap, func(string) bool { return false }) })
	if got := h.Run("nft", "list", "map", "inet", "cnibox", "ports_ipv4"); !strings.Contains(got, "10.2.0.5 . 8080") {
		t.Errorf("the port leads nowhere: %s", got)
	}
	h.detach(two)
	if leaks, err := h.Leaks(); err != nil || len(leaks) > 0 {
		t.Errorf("left over: %q (%v)", leaks, err)
	}
}
