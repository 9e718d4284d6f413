package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
)

// Leases tells of all leases, and unlike the daemon leaves files alone that are none.
func TestLeases(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := owner.Owner{Network: "lan", ContainerID: "a", IfName: "eth0"}
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	if err := (&saved{Owner: o, Netns: "/run/netns/a", Family: IPv4, End: end}).write(record.Folder(dir)); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.json")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	leases, err := Leases(dir)
	if len(leases) != 1 || leases[0].Owner != o || leases[0].Netns != "/run/netns/a" || !leases[0].End.Equal(end) || time.Since(leases[0].Since) > time.Minute {
		t.Errorf("got %+v", leases)
	}
	if err == nil {
		t.Error("the file that is no lease is passed over")
	}
	if _, err := os.Stat(broken); err != nil {
		t.Error(err)
	}
	if leases, err := Leases(filepath.Join(dir, "missing")); err != nil || leases != nil {
		t.Errorf("%v, %v", leases, err)
	}
}
