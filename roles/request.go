package roles

import (
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/owner"
)

// Attachment is a container ID and an interface name (CNI spec, "Attachment").
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// Request is one call of a role, checked and decoded by the runner.
type Request struct {
	Owner      owner.Owner        // on GC and STATUS only Network is set
	CNIVersion string             // of the configuration; "0.1.0" where it names none
	Args       string             // CNI_ARGS, as given
	Path       string             // CNI_PATH, as given
	NetNS      string             // CNI_NETNS, as given; may be empty on DEL
	Conf       []byte             // the whole configuration; a delegate gets all of it
	Prev       *types100.Result   // nil for an originating role, and on DEL where it is missing or unreadable
	Host       *netutil.Namespace // the namespace that the plugin was started in
	Sandbox    *netutil.Namespace // nil on GC and STATUS, and on DEL when the namespace is gone
	SandboxErr error              // DEL: why Sandbox is nil although it may not be gone
	IPAM       *Delegate          // nil if the configuration has no ipam
	Undo       *netutil.Undo      // never nil

	run    *runner // what other plugins are called with
	listed bool    // Conf is that of a plugin of a list, see Plugin
}
