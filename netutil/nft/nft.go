// Package nft keeps cnibox's nftables state: static chains, made once, and elements of sets and maps that attachments
// add and remove in one atomic batch per operation. No program is started; all goes over netlink.
//
// What happens to a packet costs the same with one pod and with ten thousand, and so does what happens here for one
// attachment: objects are looked up by their keys, never listed (GC aside).
package nft

import (
	"errors"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// Tables are cnibox's tables in one network namespace. The socket is opened on first use. Not safe for concurrent use.
type Tables struct {
	open func() (*rawnl.Socket, error)
	lock func() (unlock func(), err error)
	root string // below which records are kept; empty: none are
	*layout
	conn    *conn
	records records
}

// Open is the tables of the namespace in which open opens its NETLINK_NETFILTER socket; that is done on first use. lock excludes all other
// writers of the namespace's tables; each operation takes it. Below the folder root records of what attachments have are kept, from which
// Restore makes it anew; if root is empty, none are.
func Open(open func() (*rawnl.Socket, error), lock func() (unlock func(), err error), root string) *Tables {
	return &Tables{open: open, lock: lock, root: root}
}

// keepsRecords tells whether there may be any.
func (t *Tables) keepsRecords() bool { return t.root != "" && unix.Access(t.root, unix.F_OK) == nil }

// Close gives the socket back.
func (t *Tables) Close() {
	if t.conn != nil {
		t.conn.Close()
		t.conn = nil
	}
}

// tries is how often an operation is made, if what it has seen is changed by a program that does not know the lock.
const tries = 2

// locked runs do with the lock held.
func (t *Tables) locked(do func(c *conn) error) error {
	unlock, err := t.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if t.layout == nil {
		t.layout = newLayout()
	}
	for range tries {
		if t.conn == nil {
			if t.conn, err = dial(t.open); err != nil {
				return err
			}
			if t.root != "" {
				t.records = records(filepath.Join(t.root, strconv.FormatUint(t.conn.Namespace(), 10)))
			}
		}
		if err = do(t.conn); err == nil {
			return nil
		}
		t.Close() // it may still hold answers to what was asked
		if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) {
			return err
		}
	}
	return err
}

// Add adds all entries of an attachment, or none. A host port that another container holds is an error with code errcode.PortBusy that names
// the holder; one that another attachment of the same container holds is waited for (waiting.go); entries of a feature that the attachment has already, one with errcode.AlreadyExists.
func (t *Tables) Add(o owner.Owner, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	return t.locked(func(c *conn) error {
		w, err := t.wanted(o, entries)
		if err != nil {
			return err
		}
		ch := &change{chains: w.chains, rules: w.rules}
		for _, f := range Features(entries) {
			if err := t.ensure(c, t.table(f)); err != nil {
				return err
			}
			if err := c.addFeature(w, f, ch); err != nil {
				return err
			}
		}
		if err := t.records.wait(ch.waits); err != nil {
			return err
		}
		if err := c.commit(ch); err != nil {
			return err
		}
		for _, f := range Features(entries) {
			if err := t.records.put(t.table(f), o, f, entries); err != nil {
				return errors.Join(err, t.takeBack(c, o, entries))
			}
		}
		return nil
	})
}

// ensure has a table stand, and in it what attachments have if it did not.
func (t *Tables) ensure(c *conn, table *table) error {
	made, err := c.ensure(table)
	if made && err == nil {
		_, err = t.restore(c)
	}
	return err
}

// takeBack removes what has just been added.
func (t *Tables) takeBack(c *conn, o owner.Owner, entries []Entry) error {
	var holdings []holding
	for _, f := range Features(entries) {
		holdings = append(holdings, holding{t.table(f), f, o.LinkName()})
	}
	return t.remove(c, holdings...)
}

// addFeature adds what is wanted for one feature to the change.
func (c *conn) addFeature(w *wanted, f Feature, ch *change) error {
	table := w.table(f)
	var added, ask []*element
	for _, e := range w.elements {
		if e.feature != f {
			continue
		}
		added, ask = append(added, e.element), append(ask, e.element)
		ask = append(ask, e.rivals...)
	}
	if len(added) > mostRecords {
		return errcode.Errorf(errcode.InvalidConfig, "packet filter: %s asks for more than %d elements", w.owner, mostRecords)
	}
	records := table.records(w.owner, f, added)
	found, err := c.find(append([]*element{records[0]}, ask...)...)
	if err != nil {
		return err
	}
	if found[0] != nil {
		return errcode.Errorf(errcode.AlreadyExists, "packet filter: %s has its %s already", w.owner, f)
	}
	for i, left := range found[1:] {
		switch {
		case left == nil:
		case left.set.exclusive() && left.shares(w.owner):
			if slices.Contains(added, ask[i]) {
				ch.yield(ask[i], left, w.owner)
			}
		case left.set.exclusive():
			return errcode.Errorf(errcode.PortBusy, "host port %s is held by %s", left.hostPort(), ownerOf(left.comment))
		default: // a former owner has left it
			ch.del = append(ch.del, found[i+1])
		}
	}
	added = slices.DeleteFunc(added, func(e *element) bool { return ch.yielded[e] })
	ch.add = append(append(ch.add, added...), records...)
	return nil
}

// hostPort is the key of a port mapping as people write it.
func (e *element) hostPort() string {
	fields, key, host := e.set.key, e.key, ""
	if fields[0] != protocol {
		size := fields[0].size()
		host = fields[0].format(key[:size])
		if fields[0] == ipv6 {
			host = "[" + host + "]"
		}
		host += ":"
		fields, key = fields[1:], key[size:]
	}
	return host + fields[1].format(key[protocol.size():]) + "/" + fields[0].format(key)
}

// Verify compares the entries with the kernel: an error with code errcode.Differs names the first that is missing or wrong. Where the reference
// plugins have made an attachment, their rules will do (reference.go).
func (t *Tables) Verify(o owner.Owner, entries []Entry) error {
	differs := t.verify(o, entries)
	if errcode.Of(differs) != errcode.Differs {
		return differs
	}
	rest, err := t.withoutReference(o, entries)
	if err != nil || len(rest) == len(entries) {
		return errors.Join(differs, err)
	}
	return t.verify(o, rest)
}

func (t *Tables) verify(o owner.Owner, entries []Entry) error {
	return t.locked(func(c *conn) error {
		w, err := t.wanted(o, entries)
		if err != nil {
			return err
		}
		for _, f := range Features(entries) {
			table := t.table(f)
			if whole, err := c.whole(table); err != nil {
				return err
			} else if !whole {
				return errcode.Errorf(errcode.Differs, "packet filter: the chains of table %s are gone or changed", table)
			}
		}
		if err := c.verify(w); err != nil {
			return err
		}
		if err := c.verifyRules(w); err != nil || !slices.ContainsFunc(entries, isForward) {
			return err
		}
		return c.verifyAdmission()
	})
}

// verifyRules compares the rules that are the attachment's own, or of its subnets.
func (c *conn) verifyRules(w *wanted) error {
	for _, ch := range w.chains {
		rules, err := c.rules(ch.in, ch.name)
		if err != nil {
			return err
		}
		if len(rules) != len(ch.rules) {
			return errcode.Errorf(errcode.Differs, "packet filter: chain %s in %s has %d rules, not %d", ch.name, ch.in, len(rules), len(ch.rules))
		}
	}
	for _, r := range w.rules {
		if stands, err := c.stands(r); err != nil {
			return err
		} else if !stands {
			return errcode.Errorf(errcode.Differs, "packet filter: chain %s in %s has no rule for %s", r.chain, r.table, r.comment)
		}
	}
	return nil
}

// verify compares elements. Those that are waited for are not there, nor are the chains that they would lead to.
func (c *conn) verify(w *wanted) error {
	keys := make([]*element, len(w.elements))
	for i, e := range w.elements {
		keys[i] = e.element
	}
	found, err := c.find(keys...)
	if err != nil {
		return err
	}
	for i, want := range keys {
		switch have := found[i]; {
		case have == nil:
			return errcode.Errorf(errcode.Differs, "packet filter: no %s", want)
		case have.set.exclusive() && have.shares(w.owner):
			w.chains = without(w.chains, want.chain)
		case have.comment != want.comment:
			return errcode.Errorf(errcode.Differs, "packet filter: %s belongs to %s", want, ownerOf(have.comment))
		case !have.same(want):
			return errcode.Errorf(errcode.Differs, "packet filter: %s leads elsewhere", want)
		}
	}
	return nil
}

// Ports are the attachment's port mappings as they stand in the kernel, without those that have conditions.
func (t *Tables) Ports(o owner.Owner) (out []PortEntry, err error) {
	err = t.locked(func(c *conn) error {
		out = nil
		if err := t.heal(c, t.inet); err != nil {
			return err
		}
		records, err := c.journal(holding{t.inet, PortMap, o.LinkName()})
		if err != nil {
			return err
		}
		elements, err := c.held(records)
		for _, e := range elements {
			if p, ok := e.portEntry(); ok {
				out = append(out, p)
			}
		}
		return err
	})
	return out, unlessMissing(err)
}

// unlessMissing passes over that the kernel has no nftables: then nothing of ours is there.
func unlessMissing(err error) error {
	if missing(err) {
		return nil
	}
	return err
}

// Delete removes all that the attachment holds of the features. It succeeds if there is nothing, no table, no nftables.
func (t *Tables) Delete(o owner.Owner, features ...Feature) error {
	if len(features) == 0 {
		return nil
	}
	return unlessMissing(t.locked(func(c *conn) error {
		holdings := make([]holding, len(features))
		for i, f := range features {
			holdings[i] = holding{t.table(f), f, o.LinkName()}
		}
		return t.remove(c, holdings...)
	}))
}

// remove removes, in one batch, what the holdings are, and before that their records. If others' are gone they are made anew.
func (t *Tables) remove(c *conn, holdings ...holding) error {
	var errs []error
	tables := []*table{t.inet}
	for _, h := range holdings {
		errs = append(errs, t.records.remove(h.table, h.link, h.feature))
		if h.table != t.inet {
			tables = []*table{t.inet, t.bridge}
		}
	}
	return errors.Join(append(errs, t.heal(c, tables...), c.remove(holdings...), t.handOver(c, holdings))...)
}

// remove removes what the holdings are.
func (c *conn) remove(holdings ...holding) error {
	records, err := c.journal(holdings...)
	if err != nil {
		return err
	}
	held, err := c.held(records)
	if err != nil {
		return err
	}
	ch := &change{del: held}
	for _, r := range records {
		ch.del = append(ch.del, r.element)
	}
	return c.commit(ch)
}

// GC removes what attachments of the network hold of a feature, but for those that are valid: valid is asked by the name of an
// owner's link (owner.Owner.LinkName). It goes on after errors and joins them.
func (t *Tables) GC(network string, f Feature, valid func(linkName string) bool) error {
	const inBatch = 100 // attachments
	return unlessMissing(t.locked(func(c *conn) error {
		table := t.table(f)
		if err := t.heal(c, table); err != nil {
			return err
		}
		all, err := c.all(table.set(setJournal))
		if err != nil {
			return err
		}
		var stale []holding
		known := map[string]bool{} // by link
		for _, e := range all {
			r := table.read(e)
			first := string(e.key) == string(journalKey(r.link(), f, 0))
			if first && owner.InNetwork(r.owner, network) && !valid(r.link()) {
				known[r.link()] = true
				stale = append(stale, holding{table, f, r.link()})
			}
		}
		recorded, err := t.records.of(table)
		errs := []error{err}
		for _, rec := range recorded { // of which a DEL has removed all else
			link := rec.owner.LinkName()
			if rec.feature == f && rec.owner.Network == network && !valid(link) && !known[link] {
				stale = append(stale, holding{table, f, link})
			}
		}
		for some := range slices.Chunk(stale, inBatch) {
			errs = append(errs, t.remove(c, some...))
		}
		return errors.Join(errs...)
	}))
}
