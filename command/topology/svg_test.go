package topology

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// shape is a rectangle, or a text with the room that it takes.
type shape struct {
	name, class, text  string
	x, y, right, below int
}

// shapes reads a picture, which must be XML.
func shapes(t *testing.T, svg string) (texts, rects []shape) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	d.Strict = true
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return texts, rects
		}
		if err != nil {
			t.Fatal(err)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "text" && start.Name.Local != "rect" {
			continue
		}
		var e struct {
			Class string `xml:"class,attr"`
			X     int    `xml:"x,attr"`
			Y     int    `xml:"y,attr"`
			W     int    `xml:"width,attr"`
			H     int    `xml:"height,attr"`
			Text  string `xml:",chardata"`
		}
		if err := d.DecodeElement(&e, &start); err != nil {
			t.Fatal(err)
		}
		s := shape{start.Name.Local, e.Class, e.Text, e.X, e.Y, e.X + e.W, e.Y + e.H}
		if s.name == "rect" {
			rects = append(rects, s)
			continue
		}
		size, _ := sizeOf(e.Class)
		s.y, s.below, s.right = e.Y-size, e.Y+size/4, e.X+width(e.Class, e.Text)
		texts = append(texts, s)
	}
}

func (s shape) overlaps(o shape) bool {
	return s.x < o.right && o.x < s.right && s.y < o.below && o.y < s.below
}

func (s shape) within(o shape) bool {
	return s.x >= o.x && s.right <= o.right && s.y >= o.y && s.below <= o.below
}

// Whatever is drawn is XML, has every attachment's addresses, and no text lies upon another or reaches beyond the box that it stands in.
func TestSVGIsLegible(t *testing.T) {
	t.Parallel()
	for name, n := range scenes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			svg := drawn(n)
			texts, rects := shapes(t, svg)
			for _, a := range n.Attachments {
				for _, p := range a.Addresses {
					if !strings.Contains(svg, ">"+p.String()+"<") {
						t.Errorf("%s of %s is not in it", p, a.Title())
					}
				}
			}
			for i, a := range texts {
				for _, b := range texts[:i] {
					if a.overlaps(b) {
						t.Errorf("%q and %q overlap", a.text, b.text)
					}
				}
				for _, r := range rects {
					touches := a.x < r.right && r.x <= a.x && a.y < r.below && r.y <= a.y
					if touches && !a.within(r) {
						t.Errorf("%q reaches beyond its box: %+v of %+v", a.text, a, r)
					}
				}
			}
			boxesAreApart(t, rects)
		})
	}
}

// boxesAreApart wants no two boxes to cross: one may only lie in another.
func boxesAreApart(t *testing.T, rects []shape) {
	t.Helper()
	for i, a := range rects {
		for _, b := range rects[:i] {
			if a.overlaps(b) && !a.within(b) && !b.within(a) {
				t.Errorf("%+v and %+v cross", a, b)
			}
		}
	}
}

// What is not right is marked, and told.
func TestSVGMarksWhatIsWrong(t *testing.T) {
	t.Parallel()
	svg := drawn(spoil(made(3, false)))
	for _, want := range []string{`class="bad"`, ">orphan<", ">drift<", ">0000c0ffeec0<", ">its sandbox is gone"} {
		if !strings.Contains(svg, want) {
			t.Errorf("%s is not in it", want)
		}
	}
	if strings.Contains(drawn(made(3, false)), `class="bad"`) {
		t.Error("a healthy node has something marked")
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a<b>&\"\x00\xff\ufffe")
	f.Fuzz(func(t *testing.T, s string) {
		c := &canvas{}
		c.text("name", 1, 1, s)
		d := xml.NewDecoder(strings.NewReader(c.picture(10, 10, s)))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
		}
	})
}
