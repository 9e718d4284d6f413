package roletest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/roles"
)

// Each document is a result of the versions that are named, and of no other.
func TestReadResult(t *testing.T) {
	t.Parallel()
	for doc, versions := range map[string]string{
		`"ip4": {"ip": "10.0.0.5/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]}, "ip6": {"ip": "fd00::5/64"}`: "0.1.0 0.2.0",
		`"ip4": {"ip": "fd00::5/64"}`:                                                               "",
		`"ip6": {"ip": "fd00::5/64", "routes": [{"dst": "0.0.0.0/0"}]}`:                             "",
		`"ip6": {"ip": "fd00::5/64", "routes": [{"dst": "::/0", "mtu": 1300}]}`:                     "",
		`"ips": [{"version": "6", "address": "fd00::5/64", "gateway": "fd00::1"}]`:                  "0.3.0 0.3.1 0.4.0",
		`"ips": [{"version": "4", "address": "fd00::5/64"}]`:                                        "",
		`"ips": [{"address": "fd00::5/64"}]`:                                                        "1.0.0 1.1.0",
		`"ips": [{"address": "fd00::5"}]`:                                                           "",
		`"ips": [{"address": "fd00::5/64", "interface": 0}]`:                                        "",
		`"interfaces": [{"name": "eth0", "mac": "x", "mtu": 1500}]`:                                 "1.1.0",
		`"interfaces": [{"name": "eth0"}], "routes": [{"dst": "::/0", "gw": "fd00::1"}], "dns": {}`: "0.3.0 0.3.1 0.4.0 1.0.0 1.1.0",
		`"routes": [{"dst": "::/0", "priority": 5}]`:                                                "1.1.0",
	} {
		var fit []string
		for _, v := range roles.Versions() {
			if _, err := ReadResult(v, fmt.Appendf(nil, `{"cniVersion": %q, %s}`, v, doc)); err == nil {
				fit = append(fit, v)
			}
		}
		if got := strings.Join(fit, " "); got != versions {
			t.Errorf("%s is a result of %q, not %q", doc, got, versions)
		}
	}
	if _, err := ReadResult("1.1.0", []byte(`{"cniVersion": "1.0.0"}`)); err == nil {
		t.Error("another version's result is read")
	}
}
