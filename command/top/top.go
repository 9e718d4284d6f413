// Package top is the command that shows how much pods receive and send at the moment.
package top

import (
	"cmp"
	"context"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/inspect"
	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Command is `cnibox top`.
func Command() *cli.Command {
	return &cli.Command{
		Name:  "top",
		Usage: "show how much pods receive and send at the moment",
		Description: ui.Describe("From the counters of their links, busiest first, in packets and bits per second; IN is what the pod receives. DROPS are\n"+
			"packets per second that a link refused, such as those beyond a limit.",
			"cnibox top",
			"cnibox top --network podnet --interval 10s --count 6"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "network", Usage: "only attachments of this `NETWORK`"},
			inspect.IntervalFlag(),
			&cli.IntFlag{Name: "count", Usage: "end after so many `PICTURES`; 0: when interrupted", Action: func(_ *cli.Context, n int) error {
				if n < 0 {
					return ui.Usagef("--count %d: want 0 or more", n)
				}
				return nil
			}},
		},
		Action: func(c *cli.Context) error {
			m := &meter{network: c.String("network"), interval: c.Duration("interval"), colours: ui.ColoursFor(c.App.Writer)}
			m.width, m.lines = ui.Size(c.App.Writer)
			return ui.Watch(c.Context, c.App.Writer, m.interval, c.Int("count"), m.draw)
		},
	}
}

// meter compares counters with those before.
type meter struct {
	network      string
	interval     time.Duration
	width, lines int
	colours      ui.Colours

	node   *node.Node
	last   map[owner.Owner]node.Traffic
	at     time.Time
	passed int // pictures since the attachments were looked for
}

// again is after how many pictures attachments are looked for again.
const again = 5

// draw waits for the first difference, and shows one at once later on.
func (m *meter) draw(ctx context.Context, out io.Writer) error {
	first := m.node == nil
	if first || m.passed >= again {
		n, err := node.Read(ctx, node.Options{})
		if err != nil {
			return err
		}
		m.node, m.passed = n, 0
	}
	if first {
		if _, err := m.count(); err != nil {
			return err
		}
		timer := time.NewTimer(min(m.interval, time.Second))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
	m.passed++
	rates, err := m.count()
	if err != nil {
		return err
	}
	return m.table(out, rates)
}

// count reads the counters, and tells what was counted since the last time, of each attachment that was there then.
func (m *meter) count() (rates []*rate, err error) {
	traffic, err := m.node.Traffic()
	if err != nil {
		return nil, err
	}
	now, counted := time.Now(), map[owner.Owner]node.Traffic{}
	for a, t := range traffic {
		if before, ok := m.last[a.Owner()]; ok && a.Matches(m.network, "") {
			rates = append(rates, rateOf(a, before, t, now.Sub(m.at).Seconds()))
		}
		counted[a.Owner()] = t
	}
	m.last, m.at = counted, now
	return rates, nil
}

// rate is what an attachment does in a second.
type rate struct {
	*node.Attachment
	inPackets, outPackets, inBits, outBits, drops uint64
}

// rateOf is the difference of two counts. A counter that is less than before is another link's.
func rateOf(a *node.Attachment, before, now node.Traffic, seconds float64) *rate {
	per := func(before, now uint64) uint64 {
		if now < before || seconds <= 0 {
			return 0
		}
		return uint64(float64(now-before)/seconds + 0.5)
	}
	const bits = 8 // in a byte
	return &rate{
		a, per(before.InPackets, now.InPackets), per(before.OutPackets, now.OutPackets),
		per(before.InBytes, now.InBytes) * bits, per(before.OutBytes, now.OutBytes) * bits, per(before.Dropped, now.Dropped),
	}
}

// table shows the busiest, as many as a terminal has room for.
func (m *meter) table(out io.Writer, all []*rate) error {
	slices.SortFunc(all, func(a, b *rate) int {
		return cmp.Or(cmp.Compare(b.inBits+b.outBits, a.inBits+a.outBits), cmp.Compare(a.Title(), b.Title()))
	})
	const around = 2 // lines: the heading, and where the cursor stands
	if m.lines > around && len(all) > m.lines-around {
		all = all[:m.lines-around]
	}
	table := ui.NewTable("NETWORK", "CONTAINER/POD", "IF", "IN bit/s", "OUT bit/s", "IN pkt/s", "OUT pkt/s", "DROPS/s")
	for _, r := range all {
		drops := node.Rate(r.drops)
		if r.drops > 0 {
			drops = m.colours.Bad(drops)
		}
		table.Row(r.Network, r.Name(), r.IfName, node.Rate(r.inBits), node.Rate(r.outBits), node.Rate(r.inPackets), node.Rate(r.outPackets), drops)
	}
	table.Fit(m.width, "NETWORK", "CONTAINER/POD")
	return table.Write(out)
}
