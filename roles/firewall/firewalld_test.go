package firewall_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles/firewall"
	"github.com/cnibox/cnibox/roles/roletest"
)

// busConf has the system's bus at its usual place, without services that it starts by itself.
const busConf = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>
`

// start starts a daemon on the host, with a /var/log of its own, and ends it with the test.
func (n *node) start(name string, args ...string) (stop func()) {
	n.t.Helper()
	c := exec.Command("sh", append([]string{"-c", `mount -t tmpfs none /var/log && exec "$@"`, "sh", name}, args...)...)
	log := filepath.Join(n.t.TempDir(), "log")
	file, err := os.Create(log)
	if err != nil {
		n.t.Fatal(err)
	}
	c.Stdout, c.Stderr = file, file
	if err := n.Host.Do(c.Start); err != nil {
		n.t.Fatal(err)
	}
	_ = file.Close()
	stop = func() { _, _ = c.Process.Kill(), c.Wait() }
	n.t.Cleanup(func() {
		stop()
		if text, _ := os.ReadFile(log); n.t.Failed() {
			n.t.Logf("%s: %s", name, text)
		}
	})
	return stop
}

// runFirewalld has Debian's firewalld run on the host, with a bus of its own.
func (n *node) runFirewalld() (stop func()) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Join(n.Host.RunDir, "dbus"), 0o755); err != nil {
		n.t.Fatal(err)
	}
	conf := filepath.Join(n.t.TempDir(), "bus.conf")
	if err := os.WriteFile(conf, []byte(busConf), 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.start("dbus-daemon", "--config-file="+conf, "--nofork", "--nopidfile")
	n.await("the bus", func() bool {
		_, err := os.Stat(filepath.Join(n.Host.RunDir, "dbus", "system_bus_socket"))
		return err == nil
	})
	stop = n.start("firewalld", "--nofork", "--nopid")
	n.await("firewalld", func() bool {
		_, err := n.Host.Try("firewall-cmd", "--state")
		return err == nil
	})
	return stop
}

func (n *node) await(what string, there func() bool) {
	n.t.Helper()
	for range 600 {
		if there() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	n.t.Fatalf("%s does not come up", what)
}

func (n *node) reload() { n.t.Helper(); n.Host.Run("firewall-cmd", "--reload") }

// wantSources wants a zone to have just these addresses.
func (n *node) wantSources(zone string, want ...string) {
	n.t.Helper()
	got := strings.Fields(n.Host.Run("firewall-cmd", "--zone="+zone, "--list-sources"))
	if len(got) != len(want) {
		n.t.Errorf("zone %s has the sources %v, want %v", zone, got, want)
	}
	for _, w := range want {
		if !strings.Contains(" "+strings.Join(got, " ")+" ", " "+w+" ") {
			n.t.Errorf("zone %s has the sources %v, want %v", zone, got, want)
		}
	}
}

// sync is what "cnibox sync" does.
func (n *node) sync() (restored []string) {
	n.t.Helper()
	err := n.Host.Do(func() error {
		host, err := netutil.Current()
		if err != nil {
			return err
		}
		defer host.Close()
		if _, err := netutil.NFT(host).Restore(); err != nil {
			return err
		}
		restored, err = firewall.Sync(n.t.Context(), host)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return restored
}

// Pods' addresses are in the zone while the pods live, and come back after a reload: by the next operation, and by cnibox sync.
func TestFirewalldZone(t *testing.T) {
	t.Parallel()
	mains(t, func(t *testing.T, n *node) {
		const keys = `"backend": "firewalld"`
		n.runFirewalld()
		a, b := n.pod("a", 1), n.pod("b", 2)
		a.getsOut(false)
		a.admit(keys)
		a.getsOut(true)
		a.fromOutside(false)
		n.wantSources("trusted", "10.9.1.2/32", "fd00:9:1::2/128")
		if rules := n.foreignRules(); strings.Contains(rules, "CNIBOX") {
			t.Errorf("a rule stands in firewalld's table:\n%s", rules)
		}

		n.reload()
		a.wantDiffers(keys, "not in the zone trusted")
		a.getsOut(false)
		b.admit(keys)
		a.admitted(keys)
		a.getsOut(true)
		a.reaches(b)

		n.reload()
		if done := n.sync(); len(done) != 4 {
			t.Errorf("put back: %v", done)
		}
		if done := n.sync(); len(done) != 0 {
			t.Errorf("put back with nothing missing: %v", done)
		}
		a.admitted(keys)
		b.getsOut(true)

		n.reload()
		n.Host.Run("nft", "delete", "table", "inet", "cnibox") // and our own record of it
		b.dismiss()
		a.admitted(keys)
		a.getsOut(true)
		n.wantSources("trusted", "10.9.1.2/32", "fd00:9:1::2/128")
		a.dismiss()
		n.wantSources("trusted")
		a.getsOut(false)
	})
}

// With the default backend firewalld's own chain has one rule, which comes back after a reload and goes with the last pod.
func TestBesideFirewalld(t *testing.T) {
	t.Parallel()
	mains(t, func(t *testing.T, n *node) {
		n.runFirewalld()
		rules := n.foreignRules()
		a := n.pod("a", 1)
		a.getsOut(false)
		a.admit("")
		a.getsOut(true)
		a.fromOutside(false)
		n.wantOneRule()
		n.Host.Run("firewall-cmd", "--list-all-zones") // it reads its own state

		n.reload()
		a.getsOut(false)
		n.sync()
		a.admitted("")
		a.getsOut(true)

		n.reload()
		b := n.pod("b", 2).admit("")
		a.admitted("")
		a.getsOut(true)
		a.reaches(b)

		a.dismiss()
		b.dismiss()
		if after := n.foreignRules(); after != rules {
			t.Errorf("after the last pod:\n%s\nbefore the first:\n%s", after, rules)
		}
	})
}

// GC takes addresses out of the zone, DEL does so when firewalld was away meanwhile, and STATUS tells.
func TestFirewalldComesAndGoes(t *testing.T) {
	t.Parallel()
	const keys = `"backend": "firewalld", "firewalldZone": "internal"`
	n := newNode(t, "bridge")
	status := roletest.Call{Verb: "STATUS", Role: "firewall", Conf: `{"cniVersion": "1.1.0", "name": "net1", "type": "firewall", ` + keys + `}`}
	if _, err := n.Do(status); errcode.Of(err) != errcode.NotAvailable {
		t.Errorf("STATUS without firewalld: %v", err)
	}
	a := n.pod("a", 1)
	before := n.Host.Run("nft", "list", "ruleset")
	if err := a.do("ADD", "firewall", keys); errcode.Of(err) != errcode.NotAvailable {
		t.Errorf("ADD without firewalld: %v", err)
	}
	if after := n.Host.Run("nft", "list", "ruleset"); after != before {
		t.Errorf("a refused ADD changed:\n%s", after)
	}

	stop := n.runFirewalld()
	n.Must(status)
	a.admit(keys)
	n.wantSources("internal", "10.9.1.2/32", "fd00:9:1::2/128")
	b := n.pod("b", 1)
	if err := b.do("ADD", "firewall", `"backend": "firewalld", "firewalldZone": "nowhere"`); errcode.Of(err) != errcode.InvalidConfig ||
		!strings.HasPrefix(err.Error(), "firewalldZone: ") {
		t.Errorf("ADD to a zone that is not there: %v", err)
	}
	n.Host.Run("firewall-cmd", "--zone=trusted", "--add-source=10.9.1.3/32")
	if err := b.do("ADD", "firewall", keys); errcode.Of(err) != errcode.NotAvailable || !strings.Contains(err.Error(), "ZONE_CONFLICT") {
		t.Errorf("ADD of an address that is in another zone: %v", err)
	}
	n.wantSources("internal", "10.9.1.2/32", "fd00:9:1::2/128") // the other family was taken back
	n.Must(roletest.Call{Verb: "GC", Role: "firewall", Conf: `{"cniVersion": "1.1.0", "name": "net1", "type": "firewall",
		"cni.dev/valid-attachments": []}`})
	n.wantSources("internal")

	c := n.pod("c", 1).admit(keys)
	stop()
	c.dismiss()
	if rules := n.Host.Run("nft", "list", "table", "inet", "cnibox"); strings.Contains(rules, "elements") {
		t.Errorf("left:\n%s", rules)
	}
}
