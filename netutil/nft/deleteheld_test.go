package nft_test

import (
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
)

// DeleteHeld takes what was told of and no more.
func TestDeleteHeld(t *testing.T) {
	h := newHost(t)
	if held, err := h.tables().Holdings(); err != nil || len(held) > 0 {
		t.Fatalf("nobody holds anything: %v, %v", held, err)
	}
	h.add(pod("keep"), masq("10.1.0.8", "10.1.0.0/24"), tcp(8, "10.1.0.8", 8))
	before := h.list()
	gone := owner.Owner{Network: "mynet", ContainerID: strings.Repeat("d", 64), IfName: "eth0"}
	h.add(gone, everything(gone)...)
	held, err := h.tables().Holdings()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	var drop []nft.Holding
	for _, x := range held {
		count[x.Link]++
		if x.Link == gone.LinkName() {
			drop = append(drop, x)
			if !owner.InNetwork(x.Text, "mynet") {
				t.Errorf("the network is not in %q", x.Text)
			}
		}
	}
	if len(count) != 2 || count[pod("keep").LinkName()] != 2 || count[gone.LinkName()] != 4 {
		t.Errorf("got %v", count)
	}
	for range 2 {
		if err := h.tables().DeleteHeld(drop...); err != nil {
			t.Fatal(err)
		}
	}
	if after := h.list(); !strings.HasPrefix(after, strings.TrimSuffix(before, "}\n")) && strings.Contains(after, "dddd") {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}
