// Package explain leads a packet that is never sent through the links, routes and rules of the live kernel, and tells what would become of it.
package explain

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil/nft"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil/nft/eval"
)

// Command is `cnibox explain`.
func Command() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "tell which way a packet takes, and what drops it",
		ArgsUsage: "SRC DST[:PORT]",
		Description: ui.Describe("No packet is sent: links, routes and rules are asked of the kernel, those of other programs too.\n\n"+
			"SRC and DST are a container ID or the beginning of one, a pod (namespace/name), an address, or `host`.\n"+
			"SRC may be outside:ADDRESS, or outside:ADDRESS@LINK, for what comes in by a link of the host.\n\n"+
			"Exits with 0 if the packet and its answer arrive, or leave the node, and with 1 if one is dropped.",
			"cnibox explain 4f1c 10.1.0.7:80",
			"cnibox explain default/web 192.0.2.10:53 --proto udp",
			"cnibox explain outside:192.0.2.10 192.0.2.1:8080"),
		Flags: []cli.Flag{
			ui.ChoiceFlag("proto", "p", "auto", "tcp", "udp", "sctp", "icmp"),
			&cli.UintFlag{Name: "sport", Usage: "source `PORT`; without it, rules that ask for it may or may not apply"},
			&cli.BoolFlag{Name: "answer", Usage: "show the way of the answer too if it comes back as it should"},
			ui.OutputFlag(),
		},
		BashComplete: complete,
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return ui.Usagef("explain: want SRC and DST[:PORT]")
			}
			if c.Uint("sport") > 0xffff {
				return ui.Usagef("--sport %d: want a port, up to 65535", c.Uint("sport"))
			}
			r, err := Explain(c.Context, node.Options{}, Question{c.Args().Get(0), c.Args().Get(1), c.String("proto"), uint16(c.Uint("sport"))})
			if err != nil {
				return err
			}
			if c.String("output") == "json" {
				err = ui.JSON(c.App.Writer, r)
			} else {
				err = r.print(c.App.Writer, c.Bool("answer"))
			}
			if err == nil && !r.works() {
				return ui.ErrFindings
			}
			return err
		},
	}
}

// complete suggests ends of ways: the node and its pods.
func complete(c *cli.Context) {
	names := []string{"host"}
	if n, err := node.Read(context.Background(), node.Options{}); err == nil {
		for _, a := range n.Attachments {
			names = append(names, ui.Printable(a.Name()))
		}
	}
	slices.Sort(names)
	_, _ = io.WriteString(c.App.Writer, strings.Join(slices.Compact(names), "\n"))
}

// Question is what is asked: see Command.
type Question struct {
	Src, Dst   string
	Protocol   string // "auto": TCP if there is a port, else ICMP
	SourcePort uint16 // 0: any
}

// protocol is the IPPROTO_.
func (q Question) protocol(port uint16, six bool) (uint8, error) {
	name := q.Protocol
	if name == "" || name == "auto" {
		name = "tcp"
		if port == 0 {
			name = "icmp"
		}
	}
	var p uint8
	switch name {
	case "icmp":
		if port != 0 {
			return 0, ui.Usagef("icmp has no ports")
		}
		if six {
			return unix.IPPROTO_ICMPV6, nil
		}
		return unix.IPPROTO_ICMP, nil
	case "tcp":
		p = unix.IPPROTO_TCP
	case "udp":
		p = unix.IPPROTO_UDP
	case "sctp":
		p = unix.IPPROTO_SCTP
	default:
		return 0, ui.Usagef("--proto %s: want tcp, udp, sctp or icmp", name)
	}
	if port == 0 {
		return 0, ui.Usagef("--proto %s: to which port? Write %s:PORT", name, q.Dst)
	}
	return p, nil
}

// Explain leads a packet from source to destination, and the answer back. The error is a ui.UsageError if the question makes no sense, or that the
// kernel could not be asked.
func Explain(ctx context.Context, o node.Options, q Question) (*Report, error) {
	name, port, err := splitPort(q.Dst)
	if err != nil {
		return nil, err
	}
	snapshot, err := node.Read(ctx, o)
	if err != nil {
		return nil, err
	}
	w, err := openWorld(snapshot)
	if err != nil {
		return nil, err
	}
	defer w.close()
	src, err := w.find(q.Src)
	if err != nil {
		return nil, err
	}
	dst, err := w.find(name)
	if err != nil {
		return nil, err
	}
	from, to, err := w.pair(src, dst)
	if err != nil {
		return nil, err
	}
	proto, err := q.protocol(port, to.Is6())
	if err != nil {
		return nil, err
	}
	p := &eval.Packet{Src: from, Dst: to, Proto: proto, SrcPort: q.SourcePort, DstPort: port}
	return w.explain(src, p)
}

// explain leads the packet, its answer, and of TCP what follows once the connection is established.
func (w *world) explain(src endpoint, p *eval.Packet) (*Report, error) {
	first := *p
	there, err := w.lead(src, p, false)
	if err != nil || there.report.Verdict != Arrives {
		return there.report, err
	}
	r := there.report
	if r.Answer, err = w.answer(there, src); err != nil || !r.Answer.works() || p.Proto != unix.IPPROTO_TCP {
		return r, err
	}
	first.Src, first.Follows = there.first.Src, true
	then, err := w.lead(src, &first, true)
	if err == nil && (!then.report.works() || then.report.Doubt != "") {
		r.Then = then.report
	}
	return r, err
}

// lead leads a packet from its source.
func (w *world) lead(src endpoint, p *eval.Packet, follows bool) (*walker, error) {
	there := &walker{world: w, report: &Report{Src: addrText(p.Src), Dst: p.Dst.String(), Protocol: nft.ProtocolName(p.Proto)}, p: p, follows: follows}
	next := hop(nil)
	if src.space == nil {
		in, err := w.comesIn(src)
		if err != nil {
			return there, err
		}
		p.DstMAC = w.answeredBy(in, p.Dst)
		there.step(w.host, "link", "receives %s on %s", describe(p), in.Name)
		if why := in.broken(); why != "" {
			_, err := there.drop(there.last(), why)
			return there, err
		}
		next = there.receive(in)
	} else {
		next = there.send(src.space)
	}
	err := there.walk(next)
	there.report.Src, there.report.MTU = addrText(there.first.Src), there.mtu
	return there, err
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// comesIn is the link by which a packet from outside reaches the host.
func (w *world) comesIn(src endpoint) (*link, error) {
	if src.in != "" {
		if l := w.host.named(src.in); l != nil {
			return l, nil
		}
		return nil, ui.Usagef("the host has no link %s", src.in)
	}
	r, err := w.host.lookUp(question{to: src.addrs[0]})
	if err != nil {
		return nil, err
	}
	if l := w.host.links[r.Link]; r.failed == 0 && l != nil {
		return l, nil
	}
	return nil, ui.Usagef("the host has no route to %s: say by which link it comes in, outside:%s@LINK", src.addrs[0], src.addrs[0])
}

// answeredBy is the MAC address to which the world outside sends what is for an address, behind a link of the host.
func (w *world) answeredBy(in *link, to netip.Addr) net.HardwareAddr {
	for _, child := range w.children(in) {
		if child.Up() && child.space.answersFor(child, to) {
			return child.MAC
		}
	}
	return in.MAC
}

// answer leads the answer to a packet that has arrived.
func (w *world) answer(there *walker, src endpoint) (*Report, error) {
	q := there.p
	p := &eval.Packet{Src: q.Dst, Dst: q.Src, Proto: q.Proto, SrcPort: q.DstPort, DstPort: q.SrcPort}
	back := &walker{world: w, report: &Report{Src: addrText(p.Src), Dst: addrText(p.Dst), Protocol: there.report.Protocol}, p: p, answer: true}
	if err := back.walk(back.send(there.at)); err != nil {
		return nil, err
	}
	r := back.report
	r.MTU = back.mtu
	if r.Verdict != Arrives && r.Verdict != Leaves {
		return r, nil
	}
	switch want := there.first.Reversed(); {
	case r.Verdict == Arrives && (src.space != nil && back.at != src.space || back.at == w.host && src.space == nil):
		r.Verdict, r.Text = Dropped, fmt.Sprintf("the answer does not come back: it ends in %s", back.at.name)
	case p.Src != want.Src || p.SrcPort != want.SrcPort:
		r.Verdict, r.Text = Dropped, fmt.Sprintf("the answer comes from %s, not from %s, so it is not taken for one", ending(p.Src, p.SrcPort), ending(want.Src, want.SrcPort))
	}
	return r, nil
}

func ending(a netip.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a, port).String()
}
