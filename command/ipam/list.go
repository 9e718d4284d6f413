package ipam

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/cnibox/cnibox/command/ui"
)

// list prints what is reserved. It fails if something could not be read, or is not as it should be.
func list(out io.Writer, p Place, asJSON bool) error {
	all, err := Survey(p)
	if asJSON {
		if all == nil {
			all = []Network{}
		}
		return errors.Join(ui.JSON(out, all), err)
	}
	if len(all) == 0 && err == nil {
		_, err = fmt.Fprintln(out, "no address is given out on this node, and no configuration has a pool")
		return err
	}
	colours := ui.ColoursFor(out)
	table := ui.NewTable("NETWORK", "ADDRESS", "CONTAINER", "INTERFACE", "SINCE", "BY", "")
	rows := 0
	for i := range all {
		for _, r := range all[i].Reservations {
			rows++
			address := "none"
			if r.Address.IsValid() {
				address = r.Address.String()
			}
			table.Row(ui.Printable(all[i].Name), address, orNone(r.ContainerID), orNone(r.IfName), r.Since.Format(time.DateTime), r.Kind, colours.Doubtful(ui.Printable(r.Problem)))
		}
	}
	if rows > 0 {
		err = errors.Join(err, table.Write(out))
		_, _ = fmt.Fprintln(out)
	}
	pools := ui.NewTable("NETWORK", "RANGES", "USED", "OF", "")
	for i := range all {
		n, name := &all[i], ui.Printable(all[i].Name)
		for _, p := range n.Pools {
			pools.Row(name, p.Ranges, strconv.Itoa(p.Reserved), size(p.Size), p.fill(colours))
		}
		if len(n.Pools) == 0 {
			pools.Row(name, "not known", strconv.Itoa(len(n.Reservations)), "", "")
		}
	}
	return errors.Join(err, pools.Write(out))
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return ui.Printable(s)
}

// size is a number of addresses as people read it.
func size(n uint64) string {
	if n > 1<<32 {
		return "many"
	}
	return strconv.FormatUint(n, 10)
}

// nearlyFull is the part of a pool, in percent, from which on it is worth a word.
const nearlyFull = 90

// Percent is how full the pool is.
func (p *Pool) Percent() int {
	if p.Size == 0 {
		return 100
	}
	return int(float64(p.Reserved) / float64(p.Size) * 100)
}

// Nearly tells that the pool should be looked at.
func (p *Pool) Nearly() bool { return p.Percent() >= nearlyFull }

// Exhausted tells that no address is left.
func (p *Pool) Exhausted() bool { return uint64(p.Reserved) >= p.Size }

func (p *Pool) fill(c ui.Colours) string {
	text := strconv.Itoa(p.Percent()) + " %"
	switch {
	case p.Exhausted():
		return c.Bad(text + ", exhausted")
	case p.Nearly():
		return c.Doubtful(text)
	}
	return text
}
