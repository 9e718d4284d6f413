package topology

import (
	"strconv"
	"strings"
)

// svg is the scene as a picture: links of the host and tunnels on top, the host below them as a bar, below that a panel for each group with its pods
// in rows.
func (s *scene) svg() string {
	c := &canvas{}
	podWidth := s.podWidth()
	panels := s.panels(podWidth)
	bands := pack(panels)
	top := s.topRow()

	w := max(top.w, 560)
	for _, b := range bands {
		w = max(w, b.w)
	}
	y := margin + 18
	c.text("title", margin, y, cut("title", s.name, w))
	y = top.draw(c, margin, y+20) + drop
	c.rect("host", margin, y, w, hostBar)
	c.text("name", margin+padding, y+20, "host")
	c.text("faint", margin+padding+46, y+20, "routing and packet filter")
	top.connect(c, y)
	y = drawBands(c, bands, y+hostBar)
	y = s.drawNotes(c, y, w)
	return c.picture(w+2*margin, y+margin, "topology of "+s.name)
}

// hostBar is the height of the bar that is the host.
const hostBar = 32

// podWidth is the width of all pods' boxes: what the broadest address, name or link needs, within limits.
func (s *scene) podWidth() int {
	w := leastPod
	for _, g := range s.groups {
		for _, a := range g.members {
			w = max(w, podBox(a).natural())
		}
	}
	return min(w, broadest)
}

// drawNotes lists what is not right of no pod.
func (s *scene) drawNotes(c *canvas, y, w int) int {
	for _, f := range s.notes {
		y += leading + 4
		c.text("wrong", margin, y, string(f.Kind))
		for i, l := range wrap("small", f.Text, w-60, 4) {
			if i > 0 {
				y += leading
			}
			c.text("small", margin+60, y, l)
		}
	}
	return y
}

// top is the row of the host's links and tunnels.
type top struct {
	boxes  []*box
	at     []int // x of each
	over   [][2]int
	w      int
	y, low int // where it begins, and ends
	apart  []bool
}

// topRow sets them beside each other. Those that do not fit are told by name only.
func (s *scene) topRow() *top {
	t := &top{}
	index := map[string]int{}
	var tunnels []*box
	room := widest
	for _, tun := range s.tunnels {
		b := tunnelBox(tun)
		b.fit(min(max(b.natural(), leastPod), 2*broadest))
		tunnels = append(tunnels, b)
		room -= b.w + between
	}
	var left []string
	for _, l := range s.uplinks {
		b := linkBox(l)
		b.fit(min(max(b.natural(), leastPod), broadest))
		if room -= b.w + between; room < broadest && len(t.boxes) > 0 {
			left = append(left, l.Name)
			continue
		}
		index[l.Name] = len(t.boxes)
		t.boxes, t.apart = append(t.boxes, b), append(t.apart, false)
	}
	if len(left) > 0 {
		lines := []styled{{"name", strconv.Itoa(len(left)) + " more links"}}
		for _, l := range wrap("small", strings.Join(left, " "), broadest-2*padding, 6) {
			lines = append(lines, styled{"small", l})
		}
		b := newBox("link", lines...)
		b.fit(broadest)
		t.boxes, t.apart = append(t.boxes, b), append(t.apart, false)
	}
	for i, tun := range s.tunnels {
		if tun.underlay != nil {
			if at, ok := index[tun.underlay.Name]; ok {
				t.over = append(t.over, [2]int{len(t.boxes), at})
			}
		}
		t.boxes, t.apart = append(t.boxes, tunnels[i]), append(t.apart, tun.port != "")
	}
	for _, b := range t.boxes {
		t.at = append(t.at, t.w)
		t.w += b.w + between
	}
	t.w = max(t.w-between, 0)
	return t
}

// draw draws the row and, above it, which tunnel goes over which link. It returns where the row ends.
func (t *top) draw(c *canvas, x, y int) (low int) {
	const step = 8 // between wires
	t.y = y + step*len(t.over)
	low = t.y
	for i, b := range t.boxes {
		t.at[i] += x
		b.draw(c, t.at[i], t.y)
		low = max(low, t.y+b.h)
	}
	ends := map[int]int{}
	for i, o := range t.over {
		from, to := t.at[o[0]]+t.boxes[o[0]].w/2, t.at[o[1]]+t.boxes[o[1]].w/2+step*ends[o[1]]
		ends[o[1]]++
		level := t.y - step*(len(t.over)-i)
		c.wire("over", from, t.y, from, level, to, level, to, t.y)
	}
	t.low = low
	return low
}

// connect draws the wires from the row to the host. A tunnel that is the port of a bridge has none.
func (t *top) connect(c *canvas, y int) {
	for i, b := range t.boxes {
		if !t.apart[i] {
			x := t.at[i] + b.w/2
			c.wire("wire", x, t.y+b.h, x, y)
		}
	}
}
