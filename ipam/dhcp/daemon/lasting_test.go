package daemon

import (
	"strings"
	"testing"

	"github.com/cnibox/cnibox/ipam/dhcp/wire"
)

// A lease keeps what it goes by, and nothing else of what the plugin was called with.
func TestLasting(t *testing.T) {
	t.Parallel()
	a := &wire.Args{
		Args: "K8S_POD_NAME=web;TOKEN=secret;EMPTY=",
		StdinData: []byte(`{"cniVersion": "1.1.0", "name": "net", "token": "secret", "runtimeConfig": {"x": "secret"}, "ipam": {"type": "dhcp", "password": "secret",
			"families": ["ipv4", "ipv6"], "request": [{"option": "routers", "skipDefault": true}], "priority": 7,
			"provide": [{"option": "host-name", "fromArg": "K8S_POD_NAME"}, {"option": "12", "fromArg": "ABSENT"}, {"option": "77", "value": "x"}]}}`),
	}
	conf, args, err := lasting(a)
	if err != nil || strings.Contains(string(conf)+args, "secret") {
		t.Fatalf("kept are %s and %s (%v)", conf, args, err)
	}
	if args != "K8S_POD_NAME=web;" {
		t.Errorf("kept of CNI_ARGS: %s", args)
	}
	const want = `{"name":"net","ipam":{"families":["ipv4","ipv6"],"request":[{"skipDefault":true,"option":"routers"}],` +
		`"provide":[{"option":"host-name","value":"","fromArg":"K8S_POD_NAME"},{"option":"12","value":"","fromArg":"ABSENT"},` +
		`{"option":"77","value":"x","fromArg":""}],"priority":7}}`
	if string(conf) != want {
		t.Errorf("kept of the configuration: %s", conf)
	}
}
