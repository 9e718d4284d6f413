package netutil_test

import (
	"context"
	"slices"
	"testing"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/nstest"
)

// After Close nothing is open of what an attachment's calls have opened: namespaces, sockets, subscriptions to events.
func TestCloseGivesDescriptorsBack(t *testing.T) { // not parallel: it looks at the whole process
	host, pod := nstest.New(t, "host"), nstest.New(t, "pod")
	attach := func() {
		k := netutil.Kernel{}
		var err error
		if k.Host, err = netutil.Open(host.Path); err != nil {
			t.Fatal(err)
		}
		defer k.Host.Close()
		if k.Sandbox, err = netutil.Open(pod.Path); err != nil {
			t.Fatal(err)
		}
		defer k.Sandbox.Close()
		plan := bridged(pod1, "10.0.0.5/24")
		plan.Filter = []nft.Entry{nft.MasqueradeEntry{Addr: plan.Addrs[0].Prefix.Addr(), Subnet: plan.Addrs[0].Prefix.Masked()}}
		undo := &netutil.Undo{}
		if _, err := netutil.Apply(context.Background(), plan, k, undo); err != nil {
			t.Error(err)
		}
		if err := netutil.Verify(context.Background(), plan, k); err != nil {
			t.Error(err)
		}
		if err := undo.Run(); err != nil {
			t.Error(err)
		}
	}
	attach() // the Go runtime opens what it keeps
	before, err := nstest.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	attach()
	after, err := nstest.Descriptors()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range after {
		if !slices.Contains(before, d) {
			t.Errorf("left open: %s", d)
		}
	}
}
