package topology

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// panel is a group: what its members have in common as a heading, and their boxes in rows below.
type panel struct {
	*group
	heading *box
	rows    [][]*box
	heights []int // of the rows
	w, h    int
}

// class is how a group's heading looks.
func (g *group) class() string {
	return [...]string{bridged: "bridge", routed: "routed", child: "child", alone: "alone"}[g.kind]
}

// wired tells whether the host is behind the heading: a bridge without an address, and what is beside the host, are for themselves.
func (g *group) wired() bool {
	return g.kind == routed || g.kind == bridged && len(addressesOf(g.link)) > 0
}

func (s *scene) panels(podWidth int) (out []*panel) {
	columns := s.columns(podWidth)
	for i, g := range s.groups {
		out = append(out, newPanel(g, columns[i], podWidth))
	}
	return out
}

// panelWidth is that of a panel with so many pods in a row.
func panelWidth(columns, podWidth int) int { return lane + columns*(podWidth+gap) - gap + 2*padding }

// columns are how many pods stand in a row of each panel: as many as look fair, or fewer if all panels have room beside each other then.
func (s *scene) columns(podWidth int) []int {
	const highest = 12 // rows
	var fair []int
	sum := -between
	for _, g := range s.groups {
		n := columnsFor(len(g.members), podWidth)
		fair, sum = append(fair, n), sum+panelWidth(n, podWidth)+between
	}
	narrow := slices.Clone(fair)
	for sum > widest {
		broadest := -1
		for i, n := range narrow {
			if n > 1 && len(s.groups[i].members) <= (n-1)*highest && (broadest < 0 || n > narrow[broadest]) {
				broadest = i
			}
		}
		if broadest < 0 {
			return fair
		}
		narrow[broadest]--
		sum -= podWidth + gap
	}
	return narrow
}

func newPanel(g *group, columns, podWidth int) *panel {
	p := &panel{group: g, w: panelWidth(columns, podWidth)}
	lines := []styled{{"name", g.title()}}
	for _, l := range wrap("faint", g.detail(), p.w-2*padding, 6) {
		lines = append(lines, styled{"faint", l})
	}
	if len(g.others) > 0 {
		const most = 20
		names := strings.Join(g.others[:min(most, len(g.others))], " ")
		if len(g.others) > most {
			names += " and " + strconv.Itoa(len(g.others)-most) + " more"
		}
		for _, l := range wrap("faint", "other ports: "+names, p.w-2*padding, 4) {
			lines = append(lines, styled{"faint", l})
		}
	}
	p.heading = newBox(g.class(), lines...)
	p.heading.fit(p.w)
	p.h = p.heading.h + padding
	for i := 0; i < len(g.members); i += columns {
		height := 0
		var row []*box
		for _, a := range g.members[i:min(i+columns, len(g.members))] {
			b := podBox(a)
			explain(b, a, podWidth)
			b.fit(podWidth)
			row, height = append(row, b), max(height, b.h)
		}
		p.rows, p.heights = append(p.rows, row), append(p.heights, height)
		p.h += gap + height
	}
	return p
}

// columnsFor is how many pods stand in a row, so that a panel is about as broad as high, and not broader than the picture.
func columnsFor(n, podWidth int) int {
	const usualHeight = 80
	most := (widest - lane - 2*padding + gap) / (podWidth + gap)
	fair := int(math.Round(math.Sqrt(float64(n) * 1.3 * usualHeight / float64(podWidth))))
	return max(1, min(fair, most, n), min(2, n))
}

// draw draws the panel with its wires: down the left side, along the top of each row, and from there to each pod.
func (p *panel) draw(c *canvas, x, y int) {
	c.rect("panel", x, y, p.w, p.h)
	p.heading.draw(c, x, y)
	trunk, begin := x+padding+lane/2-4, y+p.heading.h
	at, last := begin+gap, begin
	for i, row := range p.rows {
		rail := at - gap/2
		left := x + padding + lane
		if p.kind != alone {
			end := left + (len(row)-1)*(row[0].w+gap) + row[0].w/2
			c.wire("wire", trunk, rail, end, rail)
			last = rail
		}
		for j, b := range row {
			px := left + j*(b.w+gap)
			if p.kind != alone {
				class := "wire"
				if b.class == "bad" {
					class = "badwire"
				}
				c.wire(class, px+b.w/2, rail, px+b.w/2, at)
			}
			b.draw(c, px, at)
		}
		at += p.heights[i] + gap
	}
	if last > begin {
		c.wire("wire", trunk, begin, trunk, last)
	}
}

// band is panels beside each other.
type band struct {
	panels []*panel
	w, h   int
}

// pack puts panels beside each other as long as there is room.
func pack(panels []*panel) (bands []*band) {
	for _, p := range panels {
		if n := len(bands); n == 0 || bands[n-1].w+between+p.w > widest {
			bands = append(bands, &band{w: -between})
		}
		b := bands[len(bands)-1]
		b.panels, b.w, b.h = append(b.panels, p), b.w+between+p.w, max(b.h, p.h)
	}
	return bands
}

// drawBands draws panels below the host, whose bar ends at y. The first band hangs on the bar; a wire leads down the left side to the others. It
// returns where all ends.
func drawBands(c *canvas, bands []*band, y int) int {
	spine, bar, lowest := margin/2, y, 0
	for i, b := range bands {
		rail := y + drop/2
		y += drop
		x := margin
		for _, p := range b.panels {
			if middle := x + p.w/2; p.wired() {
				from := bar
				if i > 0 {
					from, lowest = rail, rail
					c.wire("wire", spine, rail, middle, rail)
				}
				c.wire("wire", middle, from, middle, y)
			}
			p.draw(c, x, y)
			x += p.w + between
		}
		y += b.h
	}
	if lowest > 0 {
		c.wire("wire", margin, bar-hostBar/2, spine, bar-hostBar/2, spine, lowest)
	}
	return y
}
