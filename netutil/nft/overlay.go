package nft

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	disk "github.com/cnibox/cnibox/netutil/record"
)

// This file is what a network over many nodes needs: between its pods nothing is masqueraded, and nobody but its nodes may send to its tunnel.

// Overlay is such a network, as one node sees it.
type Overlay struct {
	Network string
	Port    uint16         // UDP, of the tunnel; 0: anybody may send there
	VNI     uint32         // of 24 bits
	Peers   []netip.Addr   // who may send there
	Subnets []netip.Prefix // of the pods of all nodes; they must not overlap
	Device  string         // by which other nodes' pods come in; empty: no link of the host's own
	Local   []netip.Prefix // those of Subnets that are this node's
	Direct  []netip.Prefix // those whose pods come in beside the tunnel
}

// overlayComment begins the comment of an overlay's elements; the network follows, and for a subnet that one.
const overlayComment = "overlay "

// SetOverlay makes what a network has in the packet filter just that, and tells how much was missing or too much.
func (t *Tables) SetOverlay(o *Overlay) (differences int, err error) {
	err = t.locked(func(c *conn) error {
		if err := t.ensure(c, t.inet); err != nil {
			return err
		}
		ch, err := t.overlayChange(c, o)
		if err != nil {
			return err
		}
		if differences = len(ch.add) + len(ch.del); differences == 0 && t.records.hasOverlay(o) {
			return nil
		}
		if err := c.commitOverlay(ch); err != nil {
			return err
		}
		return t.records.putOverlay(o)
	})
	return differences, err
}

// VerifyOverlay tells how much is missing or too much, and changes nothing.
func (t *Tables) VerifyOverlay(o *Overlay) (differences int, err error) {
	err = t.locked(func(c *conn) error {
		whole, err := c.whole(t.inet)
		if err != nil || !whole {
			differences = 1
			return err
		}
		ch, err := t.overlayChange(c, o)
		if err == nil {
			differences = len(ch.add) + len(ch.del)
		}
		return err
	})
	return differences, unlessMissing(err)
}

// RemoveOverlay removes what a network has. It succeeds if there is nothing.
func (t *Tables) RemoveOverlay(network string) error {
	return unlessMissing(t.locked(func(c *conn) error {
		errs := []error{t.records.removeOverlay(network), t.heal(c, t.inet)}
		ch, err := t.overlayChange(c, &Overlay{Network: network})
		if err == nil {
			err = c.commitOverlay(ch)
		}
		return errors.Join(append(errs, err)...)
	}))
}

// commitOverlay makes the change, and then has other programs' chains let the pods of the other nodes through to ours, and no others. What they
// refuse must not keep the tunnel from working; ADD of a pod tells of it.
func (c *conn) commitOverlay(ch *change) error {
	if err := c.commit(ch); err != nil || len(ch.add)+len(ch.del) == 0 {
		return err
	}
	return c.commit(&change{always: true})
}

// elements are what the network is to have.
func (o *Overlay) elements(t *table) (out []*element) {
	tag := overlayTag(o.Network)
	if o.Port != 0 {
		out = append(out, &element{set: t.set(setTunnels), key: pack(packPort(o.Port), packVNI(o.VNI)), comment: tag})
	}
	for _, a := range o.Peers {
		out = append(out, &element{set: t.set(of(setTunnelPeers, familyOf(a))), key: pack(a.AsSlice(), packPort(o.Port), packVNI(o.VNI)), comment: tag})
	}
	if o.Device != "" {
		out = append(out, &element{set: t.set(setTunnelDevices), key: packName(o.Device), comment: tag})
	}
	subnets := func(set string, list []netip.Prefix) {
		for _, s := range list {
			out = append(out, intervalOf(t.set(of(set, familyOf(s.Addr()))), s, tag)...)
		}
	}
	subnets(setInside, o.Subnets)
	subnets(setLocal, o.Local)
	subnets(setDirect, o.Direct)
	return out
}

// intervalOf is a prefix as a set of intervals has it: its first address, and the first behind it, if there is one.
func intervalOf(s *set, p netip.Prefix, tag string) []*element {
	p = p.Masked()
	out := []*element{{set: s, key: p.Addr().AsSlice(), comment: tag + " " + p.String()}}
	last := p.Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	end, _ := netip.AddrFromSlice(last)
	if next := end.Next(); next.IsValid() {
		out = append(out, &element{set: s, key: next.AsSlice(), end: true})
	}
	return out
}

// overlayChange compares what the network is to have with what it has.
func (t *Tables) overlayChange(c *conn, o *Overlay) (*change, error) {
	tag, ch := overlayTag(o.Network), &change{}
	want := map[string]*element{} // by set and key; ends of intervals go with their beginnings
	var follow *element
	ends := map[*element]*element{}
	for _, e := range o.elements(t.inet) {
		if e.end {
			ends[follow] = e
			continue
		}
		follow = e
		want[e.set.name+string(e.key)] = e
	}
	for _, s := range t.inet.sets {
		if !s.ofOverlays() {
			continue
		}
		have, err := c.all(s)
		if err != nil {
			return nil, err
		}
		for _, e := range have {
			if e.end {
				continue
			}
			if e.comment != tag && !strings.HasPrefix(e.comment, tag+" ") {
				if err := overlaps(e, want, tag); err != nil {
					return nil, err
				}
				continue
			}
			at := s.name + string(e.key)
			if w := want[at]; w != nil && w.comment == e.comment {
				delete(want, at)
				continue
			}
			ch.del = append(ch.del, e)
			if p, err := netip.ParsePrefix(strings.TrimPrefix(e.comment, tag+" ")); err == nil {
				ch.del = append(ch.del, intervalOf(s, p, tag)[1:]...)
			}
		}
	}
	for _, e := range want {
		ch.add = append(ch.add, e)
		if end := ends[e]; end != nil {
			ch.add = append(ch.add, end)
		}
	}
	return ch, nil
}

// overlaps refuses what is wanted if another network has it, or some of it.
func overlaps(have *element, want map[string]*element, tag string) error {
	network, text, ok := strings.Cut(strings.TrimPrefix(have.comment, overlayComment), " ")
	theirs, err := netip.ParsePrefix(text)
	if !ok || err != nil {
		return nil
	}
	for _, w := range want {
		if ours, ok := w.subnetOf(tag); ok && w.set == have.set && ours.Overlaps(theirs) {
			return errcode.Errorf(errcode.AlreadyExists, "nodeSubnets: %s overlaps %s of the network %s on this node", ours, theirs, network)
		}
	}
	return nil
}

// Records of overlays, from which they are made anew like what attachments have (record.go): the port, the VNI and the device, then peers, then subnets.

// Words before subnets of a kind.
const (
	wordLocal  = "local "
	wordDirect = "direct "
)

func (r records) overlays() string { return filepath.Join(string(r), "overlay") }

func overlayName(network string) string { return owner.Owner{Network: network}.LinkName() }

func (r records) overlayPath(network string) string {
	return filepath.Join(r.overlays(), overlayName(network))
}

func (o *Overlay) text() string {
	lines := []string{strings.Join([]string{"overlay", o.Network, strconv.Itoa(int(o.Port)), strconv.Itoa(int(o.VNI)), orNone(o.Device)}, " ")}
	for _, a := range o.Peers {
		lines = append(lines, a.String())
	}
	subnets := func(word string, list []netip.Prefix) {
		for _, s := range list {
			lines = append(lines, word+s.String())
		}
	}
	subnets("", o.Subnets)
	subnets(wordLocal, o.Local)
	subnets(wordDirect, o.Direct)
	return strings.Join(append(lines, recordEnd), "\n") + "\n"
}

func parseOverlay(text string) (o *Overlay, ok bool) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	first := strings.Split(lines[0], " ")
	if len(lines) < 2 || lines[len(lines)-1] != recordEnd || len(first) != 5 || first[0] != "overlay" || len(first[4]) >= unix.IFNAMSIZ {
		return nil, false
	}
	number, err := strconv.ParseUint(first[2], 10, 16)
	if err != nil {
		return nil, false
	}
	id, err := strconv.ParseUint(first[3], 10, 24)
	if err != nil {
		return nil, false
	}
	o = &Overlay{Network: first[1], Port: uint16(number), VNI: uint32(id), Device: unlessNone(first[4])}
	for _, l := range lines[1 : len(lines)-1] {
		if !o.parseLine(l) {
			return nil, false
		}
	}
	return o, true
}

// parseLine reads an address of a peer, or a subnet.
func (o *Overlay) parseLine(line string) (ok bool) {
	if a, err := netip.ParseAddr(line); err == nil && a.Zone() == "" {
		o.Peers = append(o.Peers, a)
		return true
	}
	list := &o.Subnets
	if text, is := strings.CutPrefix(line, wordLocal); is {
		line, list = text, &o.Local
	} else if text, is := strings.CutPrefix(line, wordDirect); is {
		line, list = text, &o.Direct
	}
	p, err := netip.ParsePrefix(line)
	*list = append(*list, p)
	return err == nil
}

func (r records) hasOverlay(o *Overlay) bool {
	if r == "" {
		return true
	}
	text, err := disk.Folder(r.overlays()).Read(overlayName(o.Network))
	return err == nil && string(text) == o.text()
}

func (r records) putOverlay(o *Overlay) error {
	if r == "" {
		return nil
	}
	err := os.MkdirAll(r.overlays(), 0o700)
	if err == nil {
		err = writeFile(r.overlayPath(o.Network), o.text())
	}
	if err != nil {
		return errcode.Errorf(errcode.Storage, "record of what is in the packet filter: %w", err)
	}
	return nil
}

func (r records) removeOverlay(network string) error {
	if r == "" {
		return nil
	}
	if err := unix.Unlink(r.overlayPath(network)); err != nil && !errors.Is(err, unix.ENOENT) {
		return errcode.Errorf(errcode.Storage, "record of what is in the packet filter: %s: %w", r.overlayPath(network), err)
	}
	return nil
}

// allOverlays are all records. What is none is passed over.
func (r records) allOverlays() (all []*Overlay) {
	if r == "" {
		return nil
	}
	files, _ := os.ReadDir(r.overlays())
	for _, f := range files {
		text, err := disk.Folder(r.overlays()).Read(f.Name())
		if err != nil {
			continue
		}
		if o, ok := parseOverlay(string(text)); ok && overlayName(o.Network) == f.Name() {
			all = append(all, o)
		}
	}
	return all
}

// restoreOverlays makes anew what overlays lack.
func (t *Tables) restoreOverlays(c *conn) error {
	for _, o := range t.records.allOverlays() {
		if _, err := c.ensure(t.inet); err != nil {
			return err
		}
		ch, err := t.overlayChange(c, o)
		if err != nil {
			return err
		}
		if err := c.commit(ch); err != nil {
			return err
		}
	}
	return nil
}

// SpotOverlay tells whether all that the network is to have is there, each element looked up by its key. What is too much it does not see.
func (t *Tables) SpotOverlay(o *Overlay) (right bool, err error) {
	err = t.locked(func(c *conn) error {
		right = false
		whole, err := c.whole(t.inet)
		if err != nil || !whole {
			return err
		}
		var want []*element
		for _, e := range o.elements(t.inet) {
			if !e.end {
				want = append(want, e)
			}
		}
		found, err := c.find(want...)
		if err != nil {
			return err
		}
		for i, e := range found {
			if e == nil || e.comment != want[i].comment {
				return nil
			}
		}
		right = true
		return nil
	})
	return right, err
}
