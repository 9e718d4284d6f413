package nft

import (
	"os"
	"time"

	"github.com/cnibox/cnibox/netutil/owner"
)

// Held is that an attachment has something of a feature in the packet filter, or a record of it.
type Held struct {
	Link    string      // the name of the owner's link, by which all that is the attachment's is found
	Text    string      // the owner as the journal has it: see owner.Owner.Text
	Owner   owner.Owner // whole, if there is a record; else the zero Owner
	Feature Feature
	Since   time.Time // of the record
}

// Holders are all attachments that have something here, once for each feature. Nothing is changed.
func (t *Tables) Holders() (out []Held, err error) {
	err = t.locked(func(c *conn) error {
		out = nil
		for _, table := range []*table{t.inet, t.bridge} {
			known := map[string]bool{} // by what the journal's key has of an attachment and a feature
			recorded, err := t.records.of(table)
			if err != nil {
				return err
			}
			for _, r := range recorded {
				known[string(journalKey(r.owner.LinkName(), r.feature, 0))] = true
				h := Held{Link: r.owner.LinkName(), Text: r.owner.String(), Owner: r.owner, Feature: r.feature}
				if info, err := os.Lstat(t.records.name(table, h.Link, h.Feature)); err == nil {
					h.Since = info.ModTime()
				}
				out = append(out, h)
			}
			all, err := c.all(table.set(setJournal))
			if err != nil {
				return err
			}
			for _, e := range all {
				r := table.read(e)
				if key := string(journalKey(r.link(), r.feature(), 0)); !known[key] {
					known[key] = true
					out = append(out, Held{Link: r.link(), Text: r.owner, Feature: r.feature()})
				}
			}
		}
		return nil
	})
	return out, unlessMissing(err)
}

// DeleteHeld removes what Holders told of, whoever's it is. What has gone meanwhile is no error.
func (t *Tables) DeleteHeld(held ...Held) error {
	if len(held) == 0 {
		return nil
	}
	return unlessMissing(t.locked(func(c *conn) error {
		holdings := make([]holding, len(held))
		for i, h := range held {
			holdings[i] = holding{t.table(h.Feature), h.Feature, h.Link}
		}
		return t.remove(c, holdings...)
	}))
}
