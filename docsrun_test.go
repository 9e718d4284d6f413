package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// Every configuration of the pages about the whole (those of a plugin's own page are run by its tests) attaches a pod and detaches it.
func TestRunPages(t *testing.T) {
	t.Parallel()
	ran := 0
	for _, e := range pageExamples(t) {
		if strings.HasPrefix(e.page, "roles/") || strings.HasPrefix(e.page, "ipam/") {
			continue
		}
		ran++
		t.Run(fmt.Sprintf("%s:%d", e.page, e.line), func(t *testing.T) {
			t.Parallel()
			n := newShownNode(t)
			for _, here := range []string{"192.0.2.10/24", "192.0.2.11/24"} { // the pages' first node
				n.Host.Run("ip", "addr", "add", here, "dev", "uplink")
			}
			peers := filepath.Join(t.TempDir(), "peers.json")
			if err := os.WriteFile(peers, []byte(peersOfPage(t)), 0o600); err != nil {
				t.Fatal(err)
			}
			n.attachExample(strings.ReplaceAll(e.text, "/etc/cni/peers.json", peers))
		})
	}
	if ran < 5 {
		t.Errorf("only %d examples", ran)
	}
}

// peersOfPage is the list of nodes that a page has.
func peersOfPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("docs/migration-flannel.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, found := strings.Cut(string(page), "```json peers\n")
	list, _, closed := strings.Cut(list, "```")
	if !found || !closed {
		t.Fatal("no list of peers on the page")
	}
	return list
}

// attachExample adds, checks and deletes a pod of a list, or of a single plugin.
func (n *shownNode) attachExample(text string) {
	n.t.Helper()
	if !strings.Contains(text, `"plugins"`) { // a single plugin, as a runtime takes it
		text = fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "podnet", "plugins": [%s]}`, text)
	}
	list, err := libcni.NetworkConfFromBytes([]byte(text))
	if err != nil {
		n.t.Fatal(err)
	}
	pod := nstest.New(n.t, "pod")
	rt := &libcni.RuntimeConf{ContainerID: containerID(1), NetNS: pod.Path, IfName: "eth0"}
	err = n.Host.Do(func() error {
		if _, err := n.cni.AddNetworkList(context.Background(), list, rt); err != nil {
			return fmt.Errorf("ADD: %w", err)
		}
		if err := n.cni.CheckNetworkList(context.Background(), list, rt); err != nil {
			return fmt.Errorf("CHECK: %w", err)
		}
		return n.cni.DelNetworkList(context.Background(), list, rt)
	})
	if err != nil {
		n.t.Errorf("%v", err)
	}
}
