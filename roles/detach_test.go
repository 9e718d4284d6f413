package roles

import (
	"context"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
)

// An address goes back only once the link is gone: the container could still send from it.
func TestDetachKeepsTheAddressOfALinkThatStands(t *testing.T) {
	t.Parallel()
	host, err := netutil.Open(nstest.New(t, "host").Path)
	if err != nil {
		t.Fatal(err)
	}
	var called []string
	ipam := &Delegate{undo: &netutil.Undo{}, call: func(_ context.Context, verb string) (*types100.Result, error) {
		called = append(called, verb)
		return nil, nil
	}}
	r := &Request{Owner: owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}, Host: host, IPAM: ipam}
	if err := Detach(context.Background(), r); err != nil || len(called) != 1 {
		t.Errorf("%v, called %v", err, called)
	}
	host.Close() // the kernel cannot be asked any more
	called = nil
	if err := Detach(context.Background(), r); err == nil || called != nil {
		t.Errorf("%v, called %v", err, called)
	}
}
