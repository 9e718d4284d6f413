package nft

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/eintr"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	disk "github.com/cnibox/cnibox/netutil/record"
)

// The kernel loses all that attachments want of the packet filter when somebody flushes it. So a record of it is kept beside, from which it
// is made anew (restore.go): a file for each attachment and feature, in a folder that is gone when the machine starts, as the tables are. A
// record is of no use without the kernel's memory of what happened before, so nothing waits for the disk, and the folder should be on none.
// It is written behind the change and removed before, so that what has a record has been made and not been taken back.

// records is the folder of one network namespace; empty: none are kept.
type records string

// name is that of a file. Features of one table are in one folder, which tells at a glance whether the table should be there.
func (r records) name(t *table, link string, f Feature) string {
	return filepath.Join(r.folder(t), link+"."+featureName(f))
}

// featureName ends the name of a file.
func featureName(f Feature) string { return strconv.Itoa(int(f)) }

func (r records) folder(t *table) string {
	if t.family == unix.NFPROTO_BRIDGE {
		return filepath.Join(string(r), "bridge")
	}
	return filepath.Join(string(r), "inet")
}

// put writes the entries of a feature down.
func (r records) put(t *table, o owner.Owner, f Feature, entries []Entry) error {
	if r == "" {
		return nil
	}
	path, text := r.name(t, o.LinkName(), f), encodeRecord(o, f, entries)
	err := writeFile(path, text)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeFile(path, text)
		}
	}
	if err != nil {
		return errcode.Errorf(errcode.Storage, "record of what is in the packet filter: %s: %w", path, err)
	}
	return nil
}

// writeFile writes a small file, always a new one: what is there of the name may be a link to another's. Package os would ask the kernel more than
// once what kind of file it is.
func writeFile(path, text string) error {
	fd, err := openNew(path)
	if errors.Is(err, unix.EEXIST) {
		if err := unix.Unlink(path); err != nil {
			return err
		}
		fd, err = openNew(path)
	}
	if err != nil {
		return err
	}
	n := 0
	err = eintr.Retry(func() (err error) {
		n, err = unix.Write(fd, []byte(text))
		return err
	})
	if err == nil && n < len(text) {
		err = unix.ENOSPC
	}
	return errors.Join(err, unix.Close(fd))
}

// openNew makes a file.
func openNew(path string) (fd int, err error) {
	err = eintr.Retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		return err
	})
	return fd, err
}

// remove removes a record, if there is one.
func (r records) remove(t *table, link string, f Feature) error {
	if r == "" {
		return nil
	}
	path := r.name(t, link, f)
	if err := unix.Unlink(path); err != nil && !errors.Is(err, unix.ENOENT) {
		return errcode.Errorf(errcode.Storage, "record of what is in the packet filter: %s: %w", path, err)
	}
	return nil
}

// recorded is a record that has been read.
type recorded struct {
	owner   owner.Owner
	feature Feature
	entries []Entry
}

// of are all records of one table. What is no record, or one that somebody died over, is passed over.
func (r records) of(t *table) (all []recorded, err error) {
	if r == "" {
		return nil, nil
	}
	files, err := os.ReadDir(r.folder(t))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errcode.Errorf(errcode.Storage, "records of what is in the packet filter: %w", err)
	}
	for _, f := range files {
		if rec, ok := r.read(t, f.Name()); ok {
			all = append(all, rec)
		}
	}
	return all, nil
}

// read reads a file of a table's folder.
func (r records) read(t *table, name string) (recorded, bool) {
	path := filepath.Join(r.folder(t), name)
	text, err := disk.Folder(r.folder(t)).Read(name)
	if err != nil {
		return recorded{}, false
	}
	rec, ok := decodeRecord(string(text))
	return rec, ok && r.name(t, rec.owner.LinkName(), rec.feature) == path
}

// The words of a record: its first line says whose it is, its last that it is whole, and each between them is an entry.
const (
	recordOwner = "attachment"
	recordEnd   = "end"
)

// none stands for what is empty.
const none = "-"

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

func unlessNone(s string) string {
	if s == none {
		return ""
	}
	return s
}

func encodeRecord(o owner.Owner, f Feature, entries []Entry) string {
	var b strings.Builder
	line := func(words ...string) { b.WriteString(strings.Join(words, " ") + "\n") }
	line(recordOwner, o.Network, o.ContainerID, o.IfName, strconv.Itoa(int(f)))
	for _, e := range entries {
		if e.feature() == f {
			line(e.words()...)
		}
	}
	line(recordEnd)
	return b.String()
}

func decodeRecord(text string) (r recorded, ok bool) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	first := strings.Split(lines[0], " ")
	if len(lines) < 2 || lines[len(lines)-1] != recordEnd || len(first) != 5 || first[0] != recordOwner {
		return r, false
	}
	r.owner = owner.Owner{Network: first[1], ContainerID: first[2], IfName: first[3]}
	if len(r.owner.IfName) >= unix.IFNAMSIZ { // nobody has an interface of such a name
		return recorded{}, false
	}
	f, err := strconv.ParseUint(first[4], 10, 8)
	if err != nil {
		return r, false
	}
	r.feature = Feature(f)
	for _, l := range lines[1 : len(lines)-1] {
		e, ok := decodeEntry(strings.Split(l, " "))
		if !ok || e.feature() != r.feature {
			return r, false
		}
		r.entries = append(r.entries, e)
	}
	return r, true
}

func (e MasqueradeEntry) words() []string {
	return []string{"masquerade", e.Addr.String(), e.Subnet.String()}
}

func (e PortEntry) words() []string {
	host := none
	if e.HostIP.IsValid() {
		host = e.HostIP.String()
	}
	number := func(n uint16) string { return strconv.Itoa(int(n)) }
	words := []string{"port", number(uint16(e.Protocol)), host, number(e.HostPort), e.Addr.String(), number(e.Port)}
	for _, c := range e.Conditions {
		words = append(words, c.Key, strconv.FormatBool(c.Negate), c.Value)
	}
	return words
}

func (e SourceNATEntry) words() []string {
	subnet := none
	if e.Subnet.IsValid() {
		subnet = e.Subnet.String()
	}
	return []string{"snat", e.Addr.String(), subnet, strconv.FormatBool(e.All)}
}

func (e ForwardEntry) words() []string {
	return []string{"forward", e.Addr.String(), e.Subnet.String(), orNone(e.Link), orNone(e.Admin), orNone(e.Zone), strconv.FormatBool(e.Legacy)}
}

func (e IngressEntry) words() []string { return []string{"ingress", e.Addr.String(), orNone(e.From)} }
func (e IsolateEntry) words() []string { return []string{"isolate", e.Port} }

// reader reads the words of an entry.
type reader struct {
	words []string
	bad   bool
}

func (r *reader) next() string {
	if len(r.words) == 0 {
		r.bad = true
		return ""
	}
	word := r.words[0]
	r.words = r.words[1:]
	r.bad = r.bad || word == ""
	return word
}

func read[T any](r *reader, parse func(string) (T, error)) T {
	v, err := parse(r.next())
	r.bad = r.bad || err != nil
	return v
}

// optional reads what may be none.
func optional[T any](r *reader, parse func(string) (T, error)) T {
	return read(r, func(s string) (v T, err error) {
		if s == none {
			return v, nil
		}
		return parse(s)
	})
}

func (r *reader) addr() netip.Addr     { return read(r, netip.ParseAddr) }
func (r *reader) prefix() netip.Prefix { return read(r, netip.ParsePrefix) }
func (r *reader) bool() bool           { return read(r, strconv.ParseBool) }
func (r *reader) text() string         { return unlessNone(r.next()) }

func (r *reader) number(bits int) uint64 {
	return read(r, func(s string) (uint64, error) { return strconv.ParseUint(s, 10, bits) })
}

func decodeEntry(words []string) (e Entry, ok bool) {
	r := &reader{words: words}
	switch r.next() {
	case "masquerade":
		e = MasqueradeEntry{r.addr(), r.prefix()}
	case "port":
		e = r.port()
	case "snat":
		e = SourceNATEntry{r.addr(), optional(r, netip.ParsePrefix), r.bool()}
	case "spoofcheck":
		e = SpoofCheckEntry{r.next(), read(r, net.ParseMAC)}
	case "addresscheck":
		e = AddressCheckEntry{r.next(), r.addr()}
	case "forward":
		e = ForwardEntry{Addr: r.addr(), Subnet: r.prefix(), Link: r.text(), Admin: r.text(), Zone: r.text(), Legacy: r.bool()}
	case "ingress":
		e = IngressEntry{r.addr(), r.text()}
	case "isolate":
		e = IsolateEntry{r.next()}
	default:
		return nil, false
	}
	return e, !r.bad && len(r.words) == 0
}

func (r *reader) port() PortEntry {
	e := PortEntry{Protocol: uint8(r.number(8)), HostIP: optional(r, netip.ParseAddr)}
	e.HostPort, e.Addr, e.Port = uint16(r.number(16)), r.addr(), uint16(r.number(16))
	for len(r.words) > 0 {
		e.Conditions = append(e.Conditions, Condition{Key: r.next(), Negate: r.bool(), Value: r.next()})
	}
	return e
}
