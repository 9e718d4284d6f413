package nft

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// conn is a socket of the nf_tables subsystem in one namespace (linux/netfilter/nfnetlink.h, nf_tables.h). Rules are the
// nftables library's (rule.go); its connection would send the look-ups one by one, and has none of a single element.
type conn struct {
	*rawnl.Socket
	second *rawnl.Socket // see emptyWithout
	open   func() (*rawnl.Socket, error)
}

func dial(open func() (*rawnl.Socket, error)) (*conn, error) {
	s, err := open()
	if err != nil {
		return nil, kernelError(err, "open it")
	}
	return &conn{Socket: s, open: open}, nil
}

// Close gives the sockets back. After a batch that removes something, the kernel may take 20 ms for it: it waits until no packet looks at
// what is gone.
func (c *conn) Close() {
	c.closeSecond()
	c.Socket.Close()
}

func (c *conn) closeSecond() {
	c.second.Close()
	c.second = nil
}

// message is a request of the subsystem, which has a header of four bytes behind netlink's.
func message(kind int, flags uint16, family uint8, attrs rawnl.Attrs) rawnl.Message {
	return rawnl.Message{
		Type: uint16(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: flags,
		Body: append([]byte{family, unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// attributes are those of an answer's body.
func attributes(body []byte) []byte { return body[min(len(body), 4):] }

// atOnce is how many look-ups go to the kernel together.
const atOnce = 256

// ask makes the look-ups, and returns what was found for each; nil where there is nothing, or no table that it could be in.
func (c *conn) ask(requests []rawnl.Message) ([][]byte, error) {
	found := make([][]byte, 0, len(requests))
	for now := range slices.Chunk(requests, atOnce) {
		answers, err := c.Exchange(now...)
		if err != nil {
			return nil, err
		}
		for _, a := range answers {
			switch {
			case errors.Is(a.Err, unix.ENOENT):
				found = append(found, nil)
			case a.Err != nil:
				return nil, a.Err
			case len(a.Bodies) == 0:
				found = append(found, nil)
			default:
				found = append(found, attributes(a.Bodies[0]))
			}
		}
	}
	return found, nil
}

// dump asks for a list; it is empty if what is asked for does not exist.
func (c *conn) dump(kind int, family uint8, attrs rawnl.Attrs) ([][]byte, error) {
	a, err := rawnl.Dump(c.Exchange, message(kind, unix.NLM_F_DUMP, family, attrs))
	switch {
	case err != nil:
		return nil, err
	case a.Interrupted:
		return nil, errcode.Errorf(errcode.TryAgainLater, "packet filter: it changes faster than it can be listed")
	case errors.Is(a.Err, unix.ENOENT):
		return nil, nil
	}
	return a.Bodies, a.Err
}

// batch is messages that the kernel carries out all or not at all.
type batch struct{ messages []rawnl.Message }

func (b *batch) put(kind int, flags uint16, t *table, attrs rawnl.Attrs) {
	b.messages = append(b.messages, message(kind, flags, t.family, attrs))
}

// run carries the batch out.
func (c *conn) run(b *batch) error {
	if len(b.messages) == 0 {
		return nil
	}
	frame := func(kind uint16) rawnl.Message {
		return rawnl.Message{Type: kind, Body: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}, Silent: true}
	}
	messages := append([]rawnl.Message{frame(unix.NFNL_MSG_BATCH_BEGIN)}, b.messages...)
	answers, err := c.Exchange(append(messages, frame(unix.NFNL_MSG_BATCH_END))...)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.Err != nil {
			return a.Err
		}
	}
	return nil
}

// kernelError gives an error of the kernel its code and says what was asked of it; nil stays nil.
func kernelError(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if missing(err) {
		err = errors.Join(err, errors.New("does this kernel have nftables (CONFIG_NF_TABLES, _INET, _NAT, CONFIG_NFT_FIB_INET, CONFIG_NF_TABLES_BRIDGE)?"))
	}
	return errcode.Errorf(errcode.Kernel, "packet filter: "+format+": %w", append(args, err)...)
}

// missing tells whether the kernel lacks what it was asked for.
func missing(err error) bool {
	for _, e := range []unix.Errno{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
