package hostdevice_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/roles/roletest"
	refplugins "github.com/cnibox/cnibox/scripts/reference"
)

// A node can change over to this plugin and back while pods run: either's DEL takes back what the other's ADD has handed over.
func TestWithReference(t *testing.T) {
	dir := t.TempDir()
	if err := refplugins.Build(dir, "main/host-device"); err != nil {
		t.Fatal(err)
	}
	reference := filepath.Join(dir, "host-device")
	const conf = `{"cniVersion": "1.0.0", "name": "lan", "type": "host-device", "device": "ens1"}`
	n, _ := newNode(t)
	n.Host.Run("ip", "link", "set", "ens1", "alias", "") // the reference plugin loses it
	call := func(verb string) {
		t.Helper()
		pod := n.Pod("a") // Do sees what was mounted before
		err := n.Host.Do(func() error {
			cmd := exec.Command(reference)
			cmd.Env = []string{
				"CNI_COMMAND=" + verb, "CNI_CONTAINERID=a", "CNI_NETNS=" + pod.Path, "CNI_IFNAME=eth0", "CNI_PATH=/nonexistent",
			}
			cmd.Stdin = strings.NewReader(conf)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Logf("%s", out)
			}
			return err
		})
		if err != nil {
			t.Fatalf("%s by the reference plugin: %v", verb, err)
		}
	}
	call("ADD")
	n.Must(roletest.Call{Verb: "DEL", Role: "host-device", Pod: n.Pod("a"), Conf: conf})
	n.Host.Run("ip", "link", "show", "dev", "ens1")
	n.Add("host-device", "a", conf)
	call("DEL")
	n.Host.Run("ip", "link", "show", "dev", "ens1")
	// The mark of an ADD that the reference plugin has taken back is in nobody's way.
	n.Add("host-device", "a", conf)
	n.Del("host-device", "a", conf)
	if out := n.Host.Run("ip", "link", "show", "dev", "ens1"); strings.Contains(out, "altname") || strings.Contains(out, "alias") {
		t.Errorf("left: %s", out)
	}
}
