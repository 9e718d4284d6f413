package netutil

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/errcode/errtest"
)

// A kernel without a kind of link answers EOPNOTSUPP. The operator learns what to load.
func TestTheMissingModuleIsNamed(t *testing.T) {
	t.Parallel()
	for kind, module := range map[Kind]string{
		Bridge: "bridge", Veth: "veth", Macvlan: "macvlan", IPvlan: "ipvlan", VLANLink: "8021q", Dummy: "dummy", IFB: "ifb", TapDevice: "tun",
	} {
		errtest.Want(t, linkError(&Link{Name: "eth0", Kind: kind}, unix.EOPNOTSUPP), errcode.Kernel, "module "+module+")")
	}
}
