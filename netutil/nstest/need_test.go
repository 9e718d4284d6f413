package nstest_test

import (
	"testing"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// Whether a feature is there must be the kernel's answer, not that of a mistyped command: each command is one that some kernel takes, and
// veth pairs, which every test needs, are there for the commands to work on.
func TestFeatures(t *testing.T) {
	t.Parallel()
	for name := range nstest.Features() {
		t.Logf("%s: %t", name, nstest.Has(t, name))
	}
	if !nstest.Has(t, "vxlan") || !nstest.Has(t, "macvlan") {
		t.Error("vxlan and macvlan are in every kernel that these tests run on")
	}
}
