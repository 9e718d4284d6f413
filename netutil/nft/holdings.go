package nft

import (
	"cmp"
	"maps"
	"slices"

	"github.com/cnibox/cnibox/netutil/owner"
)

// Holding is what one attachment has of one feature, for who looks at a node.
type Holding struct {
	Link     string      // name of the owner's link (owner.Owner.LinkName)
	Text     string      // of the owner, which may be cut (owner.Owner.Text)
	Owner    owner.Owner // as its record has it; zero where there is no record
	Feature  Feature
	Elements int         // that stand in the kernel
	Missing  []string    // those that it should have besides
	Ports    []PortEntry // mappings that are in force; of those with conditions, as they were asked for
	Entries  []Entry     // as its record has it
}

// Recorded tells whether it would be made anew.
func (h *Holding) Recorded() bool { return h.Owner != owner.Owner{} }

// Holdings are all of them, by table, link and feature. Each set is listed once, and nothing is changed.
func (t *Tables) Holdings() (out []Holding, err error) {
	err = t.locked(func(c *conn) error {
		out = nil
		for _, table := range []*table{t.inet, t.bridge} {
			l := &lister{conn: c, table: table, sets: map[string]map[string]*element{}, rules: map[string]bool{}, held: map[holding]*Holding{}}
			if err := l.journal(); err != nil {
				return err
			}
			recs, err := t.records.of(table)
			if err != nil {
				return err
			}
			for _, rec := range recs {
				if err := l.recorded(t.layout, rec); err != nil {
					return err
				}
			}
			for _, h := range l.sorted() {
				out = append(out, *h)
			}
		}
		return nil
	})
	return out, unlessMissing(err)
}

// lister lists what is held in a table.
type lister struct {
	*conn
	table *table
	sets  map[string]map[string]*element // what is in the sets that were asked for, by name and key
	rules map[string]bool                // which rules for many stand, by chain and comment
	held  map[holding]*Holding
}

// sorted is what was found, by link and feature.
func (l *lister) sorted() []*Holding {
	all := slices.Collect(maps.Values(l.held))
	slices.SortFunc(all, func(a, b *Holding) int { return cmp.Or(cmp.Compare(a.Link, b.Link), cmp.Compare(a.Feature, b.Feature)) })
	return all
}

// in is the element that is in a set in another's place, or nil.
func (l *lister) in(s *set, key []byte) (*element, error) {
	if l.sets[s.name] == nil {
		all, err := l.all(s)
		if err != nil {
			return nil, err
		}
		l.sets[s.name] = make(map[string]*element, len(all))
		for _, e := range all {
			l.sets[s.name][string(e.key)] = e
		}
	}
	return l.sets[s.name][string(key)], nil
}

func (l *lister) of(link string, f Feature) *Holding {
	at := holding{l.table, f, link}
	if l.held[at] == nil {
		l.held[at] = &Holding{Link: link, Feature: f}
	}
	return l.held[at]
}

// journal reads the journal, and looks for what it tells of.
func (l *lister) journal() error {
	all, err := l.all(l.table.set(setJournal))
	if err != nil {
		return err
	}
	for _, e := range all {
		r := l.table.read(e)
		h := l.of(r.link(), featureOf(e))
		h.Text = r.owner
		if r.set == nil {
			continue
		}
		found, err := l.in(r.set, r.key)
		if err != nil {
			return err
		}
		l.judge(h, r.set, r.key, found)
	}
	return nil
}

// featureOf is the feature in the key of a record of the journal.
func featureOf(e *element) Feature {
	b := e.key[ifname.size():]
	return Feature(markOf(b) >> 16)
}

// judge counts an element as standing or missing. A port that another attachment of the container has is waited for, see waiting.go.
func (l *lister) judge(h *Holding, s *set, key []byte, found *element) {
	switch {
	case found != nil && linkOf(found.comment) == h.Link:
		h.Elements++
		if p, ok := found.portEntry(); ok {
			h.Ports = append(h.Ports, p)
		}
	case found == nil || !s.exclusive():
		if what := (&element{set: s, key: key}).String(); !slices.Contains(h.Missing, what) {
			h.Missing = append(h.Missing, what)
		}
	}
}

// recorded adds what a record tells of, and the kernel does not.
func (l *lister) recorded(all *layout, rec recorded) error {
	h := l.of(rec.owner.LinkName(), rec.feature)
	h.Owner, h.Text, h.Entries = rec.owner, rec.owner.String(), rec.entries
	for _, e := range rec.entries {
		if p, ok := e.(PortEntry); ok && len(p.Conditions) > 0 {
			h.Ports = append(h.Ports, p)
		}
	}
	w, err := all.wanted(rec.owner, rec.entries)
	if err != nil { // of a record that somebody else has made up
		return nil
	}
	for _, e := range w.elements {
		found, err := l.in(e.set, e.key)
		if err != nil {
			return err
		}
		if found == nil || linkOf(found.comment) != h.Link {
			l.judge(h, e.set, e.key, found)
		}
	}
	return l.shared(h, w.rules)
}

// shared adds the rules that are missing of those that the attachment has together with others. Each is looked for once.
func (l *lister) shared(h *Holding, rules []*sharedRule) error {
	for _, r := range rules {
		what := "the rule for " + r.comment + " in " + l.table.String() + " " + r.chain
		stands, known := l.rules[what]
		if !known {
			var err error
			if stands, err = l.stands(r); err != nil {
				return err
			}
			l.rules[what] = stands
		}
		if !stands {
			h.Missing = append(h.Missing, what)
		}
	}
	return nil
}
