package node

import (
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/rawnl"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// Traffic is what a container has received and sent since its interface was made.
type Traffic struct {
	InPackets, OutPackets uint64
	InBytes, OutBytes     uint64
	Dropped               uint64 // packets, of both directions
}

// Traffic reads the counters of all attachments whose links were found. Those of the host's links are listed once; only where an attachment has none,
// its sandbox is entered. Attachments that have gone since the snapshot are left out.
func (n *Node) Traffic() (map[*Attachment]Traffic, error) {
	s, err := rawnl.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	host, err := counters(s)
	if err != nil {
		return nil, err
	}
	out := map[*Attachment]Traffic{}
	inside := map[*Namespace][]*Attachment{}
	for _, a := range n.Attachments {
		switch ns := a.sources.sandbox; {
		case a.HostLink != nil:
			if c, ok := host[a.HostLink.Index]; ok { // what the host's end receives the container has sent
				out[a] = Traffic{c.TxPackets, c.RxPackets, c.TxBytes, c.RxBytes, c.RxDropped + c.TxDropped}
			}
		case a.Link != nil && ns != nil:
			inside[ns] = append(inside[ns], a)
		}
	}
	if len(inside) > 0 {
		trafficInside(inside, out)
	}
	return out, nil
}

// trafficInside reads counters in sandboxes, on a thread that ends with it.
func trafficInside(inside map[*Namespace][]*Attachment, out map[*Attachment]Traffic) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, see readSandboxes
		for ns, attachments := range inside {
			links, err := ns.counters()
			if err != nil {
				continue // it has gone
			}
			for _, a := range attachments {
				if c, ok := links[a.Link.Index]; ok {
					out[a] = Traffic{c.RxPackets, c.TxPackets, c.RxBytes, c.TxBytes, c.RxDropped + c.TxDropped}
				}
			}
		}
	}()
	<-done
}

// counters moves the thread into the namespace and reads the counters of all its links, by index.
func (n *Namespace) counters() (map[int]rtnl.Counters, error) {
	fd, err := n.move()
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	s, err := rawnl.Open(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return counters(s)
}

func counters(s *rawnl.Socket) (map[int]rtnl.Counters, error) {
	answer, err := rawnl.Dump(s.Exchange, rtnl.GetCounters())
	if err == nil {
		err = answer.Err
	}
	out := make(map[int]rtnl.Counters, len(answer.Bodies))
	for _, b := range answer.Bodies {
		if c, ok := rtnl.ParseCounters(b); ok {
			out[c.Index] = c
		}
	}
	return out, err
}
