package nft

import (
	"errors"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Restored is what an attachment was missing, or another program's table.
type Restored struct {
	Owner   owner.Owner
	Feature Feature
	Table   string // that rules for pods were missing in; then there is no owner
	Err     error  // why it could not be made anew; nil if it was
}

// Restore makes anew what attachments are missing in the packet filter, as after "nft flush ruleset", and the rules for pods in the chains of
// other programs. It leaves alone what stands.
func (t *Tables) Restore() (done []Restored, err error) {
	err = t.locked(func(c *conn) error {
		done, err = t.restore(c)
		return err
	})
	return done, err
}

// Heal is Restore for when the tables are gone, which every operation calls for. It costs next to nothing where no attachment has
// anything in the packet filter.
func (t *Tables) Heal() error {
	if !t.keepsRecords() {
		return nil
	}
	return unlessMissing(t.locked(func(c *conn) error { return t.heal(c, t.inet, t.bridge) }))
}

// heal restores all if one of the tables is not there although attachments have something in it.
func (t *Tables) heal(c *conn, tables ...*table) error {
	if t.records == "" {
		return nil
	}
	for _, table := range tables {
		if uses, err := c.uses(table, marker()); err != nil {
			return err
		} else if uses[0] >= 0 {
			continue
		}
		if recs, err := t.records.of(table); err != nil {
			return err
		} else if len(recs) > 0 || table == t.inet && len(t.records.allOverlays()) > 0 {
			_, err := t.restore(c)
			return err
		}
	}
	return nil
}

// atATime is how many records are restored in one change.
const atATime = 100

func (t *Tables) restore(c *conn) (done []Restored, err error) {
	// Overlays come first: what other programs' chains let through to pods follows from both. They must not keep pods from theirs.
	overlays := t.restoreOverlays(c)
	for _, table := range []*table{t.inet, t.bridge} {
		recs, err := t.records.of(table)
		if err != nil {
			return done, errors.Join(overlays, err)
		}
		if len(recs) == 0 {
			continue
		}
		if _, err := c.ensure(table); err != nil {
			return done, errors.Join(overlays, err)
		}
		for some := range slices.Chunk(recs, atATime) {
			restored, err := t.restoreSome(c, table, some)
			done = append(done, restored...)
			if err != nil {
				return done, errors.Join(overlays, err)
			}
		}
	}
	return done, overlays
}

// restoreSome restores records of one table.
func (t *Tables) restoreSome(c *conn, table *table, recs []recorded) (done []Restored, err error) {
	r := &restoring{
		conn: c, table: table, wanted: &wanted{layout: t.layout}, change: &change{always: true},
		stand: map[*sharedRule]bool{}, ports: map[string]*element{},
	}
	for _, rec := range recs {
		missing, err := r.lacks(rec)
		if missing || err != nil {
			done = append(done, Restored{Owner: rec.owner, Feature: rec.feature, Err: err})
		}
	}
	r.change.rules = r.wanted.rules
	err = errors.Join(t.records.wait(r.change.waits), c.commit(r.change))
	for _, table := range r.change.elsewhere {
		done = append(done, Restored{Table: table})
	}
	if r.change.refused != nil {
		done = append(done, Restored{Table: "of another program", Err: r.change.refused})
	}
	return done, err
}

// restoring is a change that restores what attachments lack.
type restoring struct {
	*conn
	*wanted
	table  *table
	change *change
	stand  map[*sharedRule]bool // which of the rules do
	ports  map[string]*element  // those of the change, by portKey
}

// portKey tells elements of exclusive sets apart.
func portKey(e *element) string { return e.set.name + " " + string(e.key) }

// lacks adds what an attachment is missing to the change.
func (r *restoring) lacks(rec recorded) (missing bool, err error) {
	r.owner, r.entries, r.used = rec.owner, rec.entries, nil
	elements, chains := len(r.elements), len(r.chains)
	for _, e := range rec.entries {
		if err := e.want(r.wanted); err != nil {
			return false, err
		}
	}
	var want []*element
	for _, e := range r.elements[elements:] {
		want = append(want, e.element)
	}
	all := append(slices.Clone(want), r.table.records(rec.owner, rec.feature, want)...)
	found, err := r.find(all...)
	if err != nil {
		return false, err
	}
	wantChains := r.chains[chains:]
	for i, e := range want {
		held := found[i]
		if held == nil {
			held = r.ports[portKey(e)]
		}
		switch {
		case held == nil || linkOf(held.comment) == rec.owner.LinkName():
		case e.set.exclusive() && held.shares(rec.owner):
			found[i] = held
			r.change.yield(e, held, rec.owner)
			wantChains = without(wantChains, e.chain)
		default:
			return false, errcode.Errorf(errcode.Differs, "packet filter: %s belongs to %s", e, ownerOf(held.comment))
		}
	}
	for i, e := range all {
		if found[i] == nil {
			missing, r.change.add = true, append(r.change.add, e)
			if e.set.exclusive() {
				r.ports[portKey(e)] = e
			}
		}
	}
	lost, err := r.lostChains(wantChains)
	if err != nil {
		return false, err
	}
	r.change.chains = append(r.change.chains, lost...)
	gone, err := r.lostRules()
	return missing || gone || len(lost) > 0, err
}

// lostChains are those of an attachment's own chains that do not stand with all their rules, and with the element that leads to each.
func (r *restoring) lostChains(chains []wantedChain) (lost []wantedChain, err error) {
	for _, ch := range chains {
		uses, err := r.uses(ch.in, ch.name)
		if err != nil {
			return nil, err
		}
		if uses[0] != len(ch.rules)+1 {
			lost = append(lost, ch)
		}
	}
	return lost, nil
}

// lostRules tells whether one of the rules that the attachment shares does not stand.
func (r *restoring) lostRules() (lost bool, err error) {
	for _, rule := range r.used {
		stands, known := r.stand[rule]
		if !known {
			if stands, err = r.stands(rule); err != nil {
				return false, err
			}
			r.stand[rule] = stands
		}
		lost = lost || !stands
	}
	return lost, nil
}

// String is what a person is told.
func (r Restored) String() string {
	text := r.Owner.String() + ": " + r.Feature.String()
	if r.Table != "" {
		text = "rules for pods in table " + r.Table
	}
	if r.Err != nil {
		text += ": " + strings.ReplaceAll(r.Err.Error(), "\n", "; ")
	}
	return text
}
