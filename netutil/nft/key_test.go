package nft

import (
	"bytes"
	"testing"

	"github.com/cnibox/cnibox/netutil/owner"
)

func sets() []*set { return append(inetTable().sets, bridgeTable().sets...) }

// What stands in the journal is found again, and fits into a comment, for the longest keys and owners there are.
func TestRecordsAreReadAgain(t *testing.T) {
	t.Parallel()
	long := string(bytes.Repeat([]byte("x"), 300))
	o := owner.Owner{Network: long, ContainerID: long, IfName: "exactly15bytes_"}
	for _, s := range sets() {
		var key []byte
		for _, f := range s.key {
			key = append(key, bytes.Repeat([]byte{0xee}, f.size())...)
			clear(key[len(key)-f.size()+f.bytes():]) // what a field is padded with
			if f == ifname {
				key[len(key)-1] = 0
			}
		}
		r := s.table.records(o, PortMap, []*element{{set: s, key: key}})[0]
		if len(r.comment) > commentLimit {
			t.Errorf("%s: the comment has %d bytes: %s", s.name, len(r.comment), r.comment)
		}
		got := s.table.read(r)
		if got.set != s || !bytes.Equal(got.key, key) || got.link() != o.LinkName() || !owner.InNetwork(got.owner, o.Network) {
			t.Errorf("%s: %q is read as %+v", s.name, r.comment, got)
		}
	}
	if n := len(tag(o)); n > commentLimit || linkOf(tag(o)) != o.LinkName() {
		t.Errorf("tag of %d bytes: %s", n, tag(o))
	}
}

// Whatever a comment holds, reading it neither fails nor invents.
func FuzzJournal(f *testing.F) {
	f.Add("mynet/pod/eth0 ports_ipv4 tcp . 8080", []byte{0, 3, 'a', 'b', 0})
	f.Add("x masquerade_ipv6 fd00::1", []byte{1, 200, 3})
	f.Add(" macs veth . 02:00:00:00:00:01", []byte{0})
	f.Add("a journal eth0 . 65536", []byte(nil))
	f.Fuzz(func(t *testing.T, comment string, userdata []byte) {
		_ = readComment(userdata)
		for _, table := range []*table{inetTable(), bridgeTable()} {
			r := table.read(&element{set: table.set(setJournal), key: journalKey("veth0", PortMap, 1), comment: comment})
			if r.set == nil {
				continue
			}
			again, ok := parseKey(r.set.key, formatKey(r.set.key, r.key))
			if !ok || !bytes.Equal(again, r.key) {
				t.Fatalf("%q is %x, which is written %q", comment, r.key, formatKey(r.set.key, r.key))
			}
		}
	})
}
