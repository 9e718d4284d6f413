package nft

import (
	"errors"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// conn is one socket in one namespace. The nftables library sends the batches; what it lacks, look-ups of single objects, goes over
// the same socket here.
type conn struct {
	*nftables.Conn
	raw *netlink.Conn
}

// socketBuffer is the size of the socket's buffers in bytes: a batch is one message to the kernel, which must take it whole, and
// each of its parts is answered, whether or not anybody has read the answers before.
const socketBuffer = 8 << 20

// dial opens the socket in the namespace that the descriptor stands for; 0 is the one that the process runs in.
func dial(fd int) (*conn, error) {
	c := &conn{}
	take := func(raw *netlink.Conn) error {
		c.raw = raw
		return errors.Join(raw.SetReadBuffer(socketBuffer), raw.SetWriteBuffer(socketBuffer))
	}
	var err error
	c.Conn, err = nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(fd), nftables.WithSockOptions(take))
	if err != nil {
		return nil, errcode.Errorf(errcode.Kernel, "packet filter: netlink socket: %w", err)
	}
	return c, nil
}

func (c *conn) close() { _ = c.CloseLasting() }

// message is a request of the nf_tables subsystem: linux/netfilter/nfnetlink.h has its header, four bytes behind netlink's.
func message(kind int, flags netlink.HeaderFlags, family nftables.TableFamily, attrs []byte) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind),
			Flags: netlink.Request | flags,
		},
		Data: append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, attrs...),
	}
}

// text is a string as an attribute has it.
func text(s string) []byte { return append([]byte(s), 0) }

// get asks for one object. It returns no messages if there is none, or no table that it could be in.
func (c *conn) get(kind int, family nftables.TableFamily, encode func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	return c.execute(kind, 0, family, encode)
}

// dumpTries bounds the repeats of a dump that the kernel marks as interrupted by a change.
const dumpTries = 64

// dump asks for a list of objects, as often as it takes to get one that nobody changed meanwhile.
func (c *conn) dump(kind int, family nftables.TableFamily, encode func(*netlink.AttributeEncoder)) ([]netlink.Message, error) {
	for range dumpTries {
		msgs, err := c.execute(kind, netlink.Dump, family, encode)
		interrupted := slices.ContainsFunc(msgs, func(m netlink.Message) bool { return m.Header.Flags&netlink.DumpInterrupted != 0 })
		if errors.Is(err, unix.EINTR) || err == nil && interrupted {
			continue
		}
		return msgs, err
	}
	return nil, errcode.Errorf(errcode.TryAgainLater, "packet filter: it changes faster than it can be listed")
}

func (c *conn) execute(
	kind int, flags netlink.HeaderFlags, family nftables.TableFamily, encode func(*netlink.AttributeEncoder),
) ([]netlink.Message, error) {
	e := netlink.NewAttributeEncoder()
	encode(e)
	attrs, err := e.Encode()
	if err != nil {
		return nil, err
	}
	msgs, err := c.raw.Execute(message(kind, flags, family, attrs))
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return msgs, err
}

// payload is what comes behind the subsystem's header.
func payload(m netlink.Message) []byte {
	const header = 4
	if len(m.Data) < header {
		return nil
	}
	return m.Data[header:]
}

// decode calls visit for each attribute. Numbers are big endian in this subsystem; visit decodes no others.
func decode(attrs []byte, visit func(d *netlink.AttributeDecoder) error) error {
	d, err := netlink.NewAttributeDecoder(attrs)
	if err != nil {
		return err
	}
	for d.Next() {
		if err := visit(d); err != nil {
			return err
		}
	}
	return d.Err()
}
