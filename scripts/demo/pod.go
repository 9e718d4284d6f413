package main

import (
	"fmt"
	"net"
	"strconv"

	"github.com/containernetworking/cni/libcni"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/greet"
	"github.com/cnibox/cnibox/scripts/private"
)

// pod is a network namespace with the result of its ADD.
type pod struct {
	name     string
	netns    string // its path, as this program sees it
	addrs    []string
	hostPort int // 0: none
}

func (p *pod) conf() *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: p.name, NetNS: private.NetNS(p.name), IfName: "eth0"}
	if p.hostPort != 0 {
		mapping := map[string]any{"hostPort": p.hostPort, "containerPort": podPort, "protocol": "tcp"}
		rt.CapabilityArgs = map[string]any{"portMappings": []any{mapping}}
	}
	return rt
}

// serve answers every connection to a port with a line that says who is seen to ask. An empty path is the host.
func serve(netns string, port int) error {
	listen := func() error { return greet.Serve(port) }
	if netns == "" {
		return listen()
	}
	return nstest.Enter(netns, listen)
}

// greet connects from the pod and says whom the other side saw.
func (p *pod) greet(addr string, port int) (answer string, err error) {
	to := net.JoinHostPort(addr, strconv.Itoa(port))
	seen, err := p.ask(to)
	return fmt.Sprintf("%s answered; it saw %s", to, seen), err
}

// ask connects from the pod and returns whom the other side saw.
func (p *pod) ask(to string) (seen string, err error) {
	err = nstest.Enter(p.netns, func() (err error) {
		seen, err = greet.Ask(to)
		return err
	})
	return seen, err
}
