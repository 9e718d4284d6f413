package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
)

// grant is what an attachment has been given in one family of addresses.
type grant interface {
	bytes() []byte         // for the disk
	address() netip.Prefix // that the daemon keeps on the interface; not valid if there is none
	// times are when more time is to be asked for, when from any server, and when the grant is over.
	times(now time.Time) (t1, t2, end time.Time)
	result(w *Wishes) *types100.Result
	String() string
}

// protocol asks for the addresses of one family.
type protocol interface {
	parse(b []byte) (grant, error)
	// open begins a conversation over the attachment's interface, which is taken up if it is down.
	open(ctx context.Context, n *netutil.Namespace, l *lease) (client, error)
	// release gives an address back.
	release(l *lease, g grant) error
}

// client is a conversation with servers over one link. It lives for one exchange, which may be of several messages.
type client interface {
	// lease asks for an address from any server, until there is one or the context ends.
	lease(ctx context.Context) (grant, error)
	// renew asks the server of a grant for more time, rebind any server.
	renew(ctx context.Context, g grant, limit time.Duration) (grant, error)
	rebind(ctx context.Context, g grant, limit time.Duration) (grant, error)
	close()
}

// protocolOf is that of a family.
func protocolOf(family string) (protocol, error) {
	switch family {
	case IPv4:
		return protocol4{}, nil
	case IPv6:
		return protocol6{}, nil
	}
	return nil, fmt.Errorf("family %q is not known", family)
}

// as is a grant as one of a family.
func as[G grant](g grant) (G, error) {
	typed, ok := g.(G)
	if !ok {
		return typed, fmt.Errorf("%s is of another family", g)
	}
	return typed, nil
}
