package nft_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/netutil/owner"
)

// host is a namespace with its packet filter.
type host struct {
	*nstest.NS
	t *testing.T
}

func newHost(t *testing.T) *host {
	t.Helper()
	return &host{nstest.New(t, "host"), t}
}

// tables is the packet filter as a plugin call of its own would open it.
func (h *host) tables() *nft.Tables {
	h.t.Helper()
	n, err := netutil.Open(h.Path)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(n.Close)
	return netutil.NFT(n)
}

func (h *host) add(o owner.Owner, entries ...nft.Entry) {
	h.t.Helper()
	if err := h.tables().Add(o, entries); err != nil {
		h.t.Fatalf("add: %v", err)
	}
}

func (h *host) delete(o owner.Owner, features ...nft.Feature) {
	h.t.Helper()
	for _, f := range features {
		if err := h.tables().Delete(o, f); err != nil {
			h.t.Fatalf("delete: %v", err)
		}
	}
}

// list is what nft(8) lists, with tabs and empty lines taken out.
func (h *host) list() string {
	var out []string
	for line := range strings.Lines(h.Run("nft", "list", "ruleset")) {
		if line = strings.TrimSpace(line); line != "" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n") + "\n"
}

// pod makes an owner of the network "mynet".
func pod(id string) owner.Owner {
	return owner.Owner{Network: "mynet", ContainerID: id, IfName: "eth0"}
}

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func masq(a, subnet string) nft.Entry {
	return nft.MasqueradeEntry{Addr: addr(a), Subnet: prefix(subnet)}
}

func tcp(hostPort uint16, a string, port uint16) nft.PortEntry {
	return nft.PortEntry{Protocol: unix.IPPROTO_TCP, HostPort: hostPort, Addr: addr(a), Port: port}
}

func snat(a, subnet string) nft.Entry {
	return nft.SourceNATEntry{Addr: addr(a), Subnet: prefix(subnet)}
}

func wantCode(t *testing.T, err error, code uint, words string) {
	t.Helper()
	if err == nil || errcode.Of(err) != code || !strings.Contains(err.Error(), words) {
		t.Errorf("got %v (code %d), want code %d and %q", err, errcode.Of(err), code, words)
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant (%s; -update writes it):\n%s", got, path, want)
	}
}
