package private

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// Node is one machine among others: a network namespace, and a /run and a /var/lib of its own.
type Node struct {
	NetNS  string
	run    string
	varLib string
}

// NewNode makes a node of a name that no other namespace has.
func NewNode(name string) (*Node, error) {
	n := &Node{NetNS: NetNS(name), run: filepath.Join("/run/nodes", name), varLib: filepath.Join("/var/lib/nodes", name)}
	return n, errors.Join(
		os.MkdirAll(filepath.Join(n.run, filepath.Base(netnsDir)), 0o755), os.MkdirAll(n.varLib, 0o755), nstest.Create(n.NetNS),
	)
}

// Do runs fn on the node, and so all programs that it starts. fn must not leave it to other goroutines.
func (n *Node) Do(fn func() error) error { return nstest.EnterHost(n.NetNS, n.run, n.varLib, fn) }

// NewPod makes a pod's namespace. On the node its path is NetNS of the name, elsewhere the one returned.
func (n *Node) NewPod(name string) (path string, err error) {
	path = filepath.Join(n.run, filepath.Base(netnsDir), name)
	return path, nstest.Create(path)
}
