package loopback

import "github.com/cnibox/cnibox/netutil"

// name is what the kernel calls the loopback interface in every network namespace.
const name = "lo"

// plan is the sandbox's loopback interface, up. The kernel gives it its addresses.
func plan() *netutil.Plan {
	return &netutil.Plan{Links: []netutil.Link{{Place: netutil.Sandbox, Name: name, Up: true}}}
}
