package store

import (
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
)

// model is what the store is to do, said as simply as possible: a map of texts, walked address by address.
type model struct {
	files map[string]string // by address
	last  map[int]netip.Addr
	sets  []Set
}

func (m *model) held(h Holder) (full, old []string) {
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		switch strings.TrimSpace(m.files[name]) {
		case h.ContainerID + "\r\n" + h.IfName:
			full = append(full, name)
		case h.ContainerID:
			old = append(old, name)
		}
	}
	return full, old
}

func (m *model) free(a netip.Addr) bool { return m.files[a.String()] == "" }

// pick goes round the set once, one address at a time.
func (m *model) pick(i int, set Set) (netip.Addr, uint) {
	if set.Want.IsValid() {
		if !m.free(set.Want) {
			return set.Want, errcode.AddressTaken
		}
		return set.Want, 0
	}
	var all []netip.Addr
	for _, r := range set.Ranges {
		for a := r.First; a.Compare(r.Last) <= 0; a = a.Next() {
			all = append(all, a)
		}
	}
	start := slices.Index(all, m.last[i]) + 1
	for n := range all {
		if a := all[(start+n)%len(all)]; m.free(a) && !slices.Contains(set.Skip, a) {
			return a, 0
		}
	}
	return netip.Addr{}, errcode.PoolExhausted
}

func (m *model) acquire(h Holder, sets []Set) (picks []netip.Addr, code uint) {
	full, old := m.held(h)
	for _, name := range append(full, old...) {
		if slices.ContainsFunc(sets, func(s Set) bool { return s.Contains(addr(name)) }) {
			return nil, errcode.AlreadyExists
		}
	}
	for i, set := range sets {
		a, code := m.pick(i, set)
		if code != 0 {
			return nil, code
		}
		picks = append(picks, a)
	}
	return picks, 0
}

// player drives a store and a model with the same random steps.
type player struct {
	*testing.T
	*rand.Rand
	s   *Store
	m   *model
	old []byte // an index of the past
}

func (p *player) holder() Holder {
	return Holder{fmt.Sprint("c", p.IntN(12)), fmt.Sprint("eth", p.IntN(2))}
}

func (p *player) someSets() []Set {
	sets := slices.Clone(p.m.sets[:1+p.IntN(len(p.m.sets))])
	for i := range sets {
		if r := sets[i].Ranges[p.IntN(len(sets[i].Ranges))]; p.IntN(5) == 0 && !slices.Contains(sets[i].Skip, r.Last) {
			sets[i].Want = r.Last
		}
	}
	return sets
}

func (p *player) acquire() {
	h, sets := p.holder(), p.someSets()
	want, code := p.m.acquire(h, sets)
	got, err := p.s.Acquire(h, sets)
	if code != 0 {
		errtest.Want(p.T, err, code)
		return
	}
	if err != nil || joined(got) != joined(want) {
		p.Fatalf("Acquire(%v): %v, %v, want %v", h, got, err, want)
	}
	for i, a := range want {
		p.m.files[a.String()] = h.text()
		p.m.last[i] = a
	}
}

func (p *player) release() {
	h := p.holder()
	want, old := p.m.held(h)
	if len(want) == 0 {
		want = old
	}
	got, err := p.s.Release(h)
	var names []string
	for _, a := range got {
		names = append(names, a.String())
	}
	slices.Sort(names)
	if err != nil || !slices.Equal(names, want) {
		p.Fatalf("Release(%v): %v, %v, want %v", h, names, err, want)
	}
	for _, name := range want {
		delete(p.m.files, name)
	}
}

// holders is who is to keep what it has, and the texts of the files that stay for them.
func (p *player) holders() (valid []Holder, keep map[string]bool) {
	keep = map[string]bool{}
	for range 14 {
		h := p.holder()
		valid = append(valid, h)
		keep[h.text()], keep[h.ContainerID] = true, true
	}
	return valid, keep
}

func (p *player) retain() {
	valid, keep := p.holders()
	want := map[string]bool{}
	for name, text := range p.m.files {
		if text = strings.TrimSpace(text); !keep[text] {
			if text != "" {
				want[name] = true
			}
			delete(p.m.files, name)
		}
	}
	released, err := p.s.Retain(valid)
	got := map[string]bool{}
	for _, r := range released {
		got[r.Addr.String()] = true
	}
	if err != nil || !maps.Equal(got, want) {
		p.Fatalf("Retain: %v, %v, want %v", got, err, want)
	}
}

// foreign is a change by a program that knows of no index.
func (p *player) foreign() {
	r := p.m.sets[p.IntN(len(p.m.sets))].Ranges[0]
	a := r.First
	for range p.IntN(10) {
		a = a.Next()
	}
	name := a.String()
	if _, ok := p.m.files[name]; ok {
		if err := os.Remove(filepath.Join(p.s.dir, name)); err != nil {
			p.Fatal(err)
		}
		delete(p.m.files, name)
		return
	}
	h := p.holder()
	text := []string{h.text(), h.ContainerID, h.ContainerID + "\r\n", ""}[p.IntN(4)]
	foreign(p.T, p.s, name, text)
	p.m.files[name] = text
}

// damage does to the index what crashes, disks and people do.
func (p *player) damage() {
	path := filepath.Join(p.s.side, "index")
	data, err := os.ReadFile(path)
	if err != nil || len(data) == 0 {
		return
	}
	live := min(len(data), headerSize+20*recordSize) // the file is far longer than its records
	switch p.IntN(7) {
	case 0:
		data = data[:p.IntN(live)]
	case 1:
		data[p.IntN(live)] ^= byte(1 << p.IntN(8))
	case 2:
		data, p.old = p.old, data
	case 3:
		if err := os.Remove(path); err != nil {
			p.Fatal(err)
		}
		return
	case 4:
		data = append(data, make([]byte, p.IntN(50))...)
	case 5:
		if n := (live - headerSize) / recordSize; n > 1 { // two records change places
			i, j := headerSize+p.IntN(n)*recordSize, headerSize+p.IntN(n)*recordSize
			one := slices.Clone(data[i : i+recordSize])
			copy(data[i:i+recordSize], data[j:j+recordSize])
			copy(data[j:], one)
		}
	case 6:
		write(p.T, filepath.Join(p.s.side, "new"), []byte("stale"))
		write(p.T, filepath.Join(p.s.side, "index.new"), data)
	}
	write(p.T, path, data)
}

// crash kills an ADD, a DEL or a GC at one of its steps. What it leaves is a part of what it was to do.
func (p *player) crash() {
	h, sets := p.holder(), p.someSets()
	var mayMake, mayRemove []string
	var call func()
	switch p.IntN(3) {
	case 0:
		picks, code := p.m.acquire(h, sets)
		if code == 0 {
			mayMake = strings.Fields(joined(picks))
		}
		call = func() { _, _ = p.s.Acquire(h, sets) }
	case 1:
		full, old := p.m.held(h)
		if mayRemove = full; len(full) == 0 {
			mayRemove = old
		}
		call = func() { _, _ = p.s.Release(h) }
	case 2:
		valid, keep := p.holders()
		for name, text := range p.m.files {
			if !keep[strings.TrimSpace(text)] {
				mayRemove = append(mayRemove, name)
			}
		}
		call = func() { _, _ = p.s.Retain(valid) }
	}
	p.kill(call, p.IntN(12))
	now := reservations(p.T, p.s)
	for name, text := range now {
		// An empty file that a crash of the reference left is there before, and replaced.
		if before, ok := p.m.files[name]; (!ok || before != text) && (!slices.Contains(mayMake, name) || text != h.text()) {
			p.Fatalf("killed call of %v left %s with %q, before %q", h, name, text, before)
		}
	}
	for name := range p.m.files {
		if _, ok := now[name]; !ok && !slices.Contains(mayRemove, name) {
			p.Fatalf("killed call of %v removed %s", h, name)
		}
	}
	p.m.files = now
	p.m.last = map[int]netip.Addr{}
	for i := range p.m.sets {
		if text, err := os.ReadFile(filepath.Join(p.s.dir, fmt.Sprint("last_reserved_ip.", i))); err == nil {
			p.m.last[i] = addr(string(text))
		}
	}
}

// kill makes a call that ends at once after some steps that change the disk, as by SIGKILL: the store has no code that runs then, but for
// what closes descriptors.
func (p *player) kill(call func(), steps int) {
	type killed struct{}
	p.s.step = func(string) error {
		if steps--; steps < 0 {
			panic(killed{})
		}
		return nil
	}
	defer func() {
		p.s.step = nil
		switch r := recover().(type) {
		case nil:
			if steps < 0 {
				p.Error("the store has recovered from a panic")
			}
		case killed:
		default:
			panic(r)
		}
	}()
	call()
}

// compare wants the folder, and what the store says of it, to be as in the model.
func (p *player) compare() {
	if got := reservations(p.T, p.s); !reflect.DeepEqual(got, p.m.files) {
		p.Fatalf("folder holds %q, want %q", got, p.m.files)
	}
	h := p.holder()
	want, old := p.m.held(h)
	if len(want) == 0 {
		want = old
	}
	got, err := p.s.Held(h)
	if err != nil || len(got) != len(want) {
		p.Fatalf("Held(%v): %v, %v, want %v", h, got, err, want)
	}
	usage, err := p.s.Usage(p.m.sets)
	for i, set := range p.m.sets {
		n := 0
		for name, text := range p.m.files {
			if strings.TrimSpace(text) != "" && set.Contains(addr(name)) {
				n++
			}
		}
		_, code := p.m.pick(i, set)
		if err != nil || usage[i].Reserved != n || usage[i].Exhausted != (code != 0) {
			p.Fatalf("Usage: %+v, %v, want %d, code %d", usage[i], err, n, code)
		}
	}
}

// sound wants an index that would be believed to be the one that the files make.
func (p *player) sound() {
	err := p.s.locked(false, func(t *txn) error {
		f, err := os.Open(t.indexPath())
		if err != nil {
			return nil
		}
		defer func() { _ = f.Close() }()
		data, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		x := parseIndex(data)
		sign, err := t.signed()
		if x == nil || x.sign != sign {
			return err
		}
		if err := t.rebuild(); err != nil {
			return err
		}
		same := x.used == t.index.used
		for i := range x.len() {
			j, found := t.index.search(x.key(i))
			same = same && (found && x.owner(i) == t.index.owner(j) || !found && x.owner(i) == ownerNone)
		}
		if !same {
			p.Errorf("index %x, files %x", x.recs, t.index.recs)
		}
		return err
	})
	if err != nil {
		p.Error(err)
	}
}

func TestAgainstModel(t *testing.T) {
	t.Parallel()
	steps := 4000
	if testing.Short() {
		steps = 400
	}
	for range 4 {
		seed := uint64(time.Now().UnixNano())
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			play(t, seed, steps)
		})
	}
}

func play(t *testing.T, seed uint64, steps int) {
	v4 := pool("10.0.0.1", "10.0.0.8", "10.0.0.1")
	v4.Ranges = append(v4.Ranges, Range{addr("10.0.0.250"), addr("10.0.1.2")})
	p := &player{
		T: t, Rand: rand.New(rand.NewPCG(seed, 0)), s: newStore(t),
		m: &model{files: map[string]string{}, last: map[int]netip.Addr{}, sets: []Set{
			v4, pool("fd00::1", "fd00::a", "fd00::1"),
		}},
	}
	moves := []struct {
		weight int
		name   string
		play   func()
	}{
		{40, "acquire", p.acquire},
		{25, "release", p.release},
		{2, "retain", p.retain},
		{8, "foreign", p.foreign},
		{8, "damage", p.damage},
		{8, "crash", p.crash},
		{3, "sound", p.sound},
	}
	var story []string
	defer func() {
		if t.Failed() {
			t.Logf("seed %d, last steps: %v", seed, story[max(0, len(story)-12):])
		}
	}()
	for range steps {
		n := p.IntN(94)
		for _, m := range moves {
			if n -= m.weight; n < 0 {
				story = append(story, m.name)
				m.play()
				break
			}
		}
		p.compare()
		if t.Failed() {
			return
		}
	}
}
