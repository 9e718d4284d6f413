package nstest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nstest"
)

func TestLeaks(t *testing.T) {
	t.Parallel()
	n := nstest.New(t, "host")
	n.Run("ip", "link", "add", "br0", "type", "bridge")
	n.Run("nft", "add table inet static; add set inet static s { type ipv4_addr; }; add map inet static m { type ipv4_addr : ipv4_addr; }")
	if leaks, err := n.Leaks("br0"); err != nil || len(leaks) != 0 {
		t.Errorf("found %q in a clean namespace (%v)", leaks, err)
	}
	n.Run("ip", "link", "add", "left1", "type", "veth", "peer", "left2")
	n.Run("ip", "rule", "add", "from", "10.9.8.7", "table", "77")
	n.Run("nft", "add element inet static s { 10.1.2.3 }; add element inet static m { 10.4.5.6 : 10.7.8.9 }")
	leaks, err := n.Leaks("br0")
	if err != nil || len(leaks) != 5 {
		t.Errorf("found %q (%v)", leaks, err)
	}
	for _, want := range []string{"left1", "left2", "10.9.8.7", "10.1.2.3", "10.4.5.6"} {
		if !slices.ContainsFunc(leaks, func(leak string) bool { return strings.Contains(leak, want) }) {
			t.Errorf("%s is not among %q", want, leaks)
		}
	}
	if leaks, err := n.Leaks(); err != nil || !slices.Contains(leaks, "interface br0") {
		t.Errorf("a bridge is kept though nobody asked: %q (%v)", leaks, err)
	}
}

// What is written to /var/lib in a namespace with a folder for it is in that folder, and not on the machine.
func TestVarLib(t *testing.T) {
	t.Parallel()
	n := nstest.New(t, "host")
	n.VarLib = t.TempDir()
	n.Run("sh", "-c", "echo here >/var/lib/cnibox-nstest")
	if got, err := os.ReadFile(filepath.Join(n.VarLib, "cnibox-nstest")); string(got) != "here\n" {
		t.Errorf("the folder has %q (%v)", got, err)
	}
	if _, err := os.Stat("/var/lib/cnibox-nstest"); err == nil {
		t.Error("the file is in the machine's /var/lib")
		_ = os.Remove("/var/lib/cnibox-nstest")
	}
}
