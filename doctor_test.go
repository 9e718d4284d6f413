package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil/owner"
)

// status runs the command line on the node and gives what it printed and exited with.
func (n *shownNode) status(stdin string, args ...string) (out string, exit int) {
	n.t.Helper()
	var stderr strings.Builder
	err := n.Host.Do(func() error {
		cmd := exec.Command(filepath.Join(n.farm, "cnibox"), args...)
		cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &stderr
		raw, err := cmd.Output()
		out = string(raw)
		return err
	})
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return out + stderr.String(), failed.ExitCode()
	}
	if err != nil {
		n.t.Fatal(err)
	}
	return out, 0
}

// A node of three networks and 30 pods is healthy. Of two faults planted on it, a link of a container that there is not and somebody's rule that
// drops a pod's packets, doctor names both; gc frees the one, and no pod loses anything.
func TestDoctorOnANode(t *testing.T) {
	t.Parallel()
	n := newShownNode(t)
	// On a tmpfs, as /run is.
	run, err := os.MkdirTemp("/dev/shm", "run")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	n.Host.RunDir = run
	n.Host.Run("ip", "route", "add", "default", "via", "192.0.2.100")
	conf := t.TempDir()
	for name, text := range map[string]string{"10-lan.conflist": lanList, "20-edge.conflist": edgeList, "30-pods.conflist": podsList} {
		if err := os.WriteFile(filepath.Join(conf, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, list := range []string{lanList, edgeList, podsList} {
		n.attach(list, 10)
	}
	n.grow()
	where := []string{"--conf-dir", conf, "--plugin-dir", n.farm}
	doctor := append([]string{"doctor"}, where...)
	healthy, exit := n.status("", doctor...)
	if exit != ui.ExitOK || strings.Contains(healthy, "problem ") || strings.Contains(healthy, "warning ") {
		t.Errorf("a healthy node: exit %d\n%s", exit, healthy)
	}

	orphan := n.plantOrphan()
	n.Host.Run("nft", "add table ip their; add chain ip their c { type filter hook forward priority -5; }; add rule ip their c ip saddr 10.2.0.3 drop")
	victim := owner.Owner{Network: "edge", ContainerID: containerID(12)[:12], IfName: "eth0"} // the network's second pod
	sick, exit := n.status("", doctor...)
	for _, want := range []string{
		"lan/deaddeaddead/eth0 is gone, and has left: link " + orphan.LinkName(),
		`table ip their, chain c, handle 2: "ip saddr 10.2.0.3 drop" stops what pods send outside, of ` + victim.String(),
		"1 problem, 1 warning",
	} {
		if !strings.Contains(sick, want) {
			t.Errorf("no %q in\n%s", want, sick)
		}
	}
	if exit != ui.ExitFailure {
		t.Errorf("exit %d", exit)
	}

	n.explained(orphan, victim)
	if out, _ := n.status("", "explain", "shop/lan-", ui.CompleteArg); strings.Count(out, "shop/lan-") != 10 {
		t.Errorf("to explain there are\n%s", out)
	}

	gc := append([]string{"gc", "--from", "-"}, where...)
	if out, exit := n.status("", gc...); exit != ui.ExitFailure || !strings.Contains(out, "the list is empty") {
		t.Errorf("gc with an empty list: exit %d\n%s", exit, out)
	}
	var ids strings.Builder
	for i := range n.pods - 1 { // that it forgets one changes nothing: its sandbox is there
		ids.WriteString(containerID(i+1) + "\n")
	}
	out, exit := n.status(ids.String(), append(gc, "--yes")...)
	if exit != ui.ExitOK || strings.Count(out, "freed ") != 1 || !strings.Contains(out, "freed lan/"+orphan.ContainerID) {
		t.Errorf("gc: exit %d\n%s", exit, out)
	}
	n.Host.Run("nft", "delete table ip their")
	if again, exit := n.status("", doctor...); exit != ui.ExitOK || again != healthy {
		t.Errorf("afterwards: exit %d\n%s", exit, again)
	}
	if got := len(n.inspected().Attachments); got != n.pods {
		t.Errorf("%d attachments are left of %d", got, n.pods)
	}
}

// explained asks the command explain about both faults, and about ways that are good.
func (n *shownNode) explained(orphan, victim owner.Owner) {
	n.t.Helper()
	for _, tt := range []struct {
		from, to string
		exit     int
		want     string
	}{
		{victim.ContainerID, "192.0.2.100:443", ui.ExitFailure, "rule handle 2 of chain ip their c: ip saddr 10.2.0.3 drop"},
		{containerID(1)[:12], orphan.ContainerID, ui.ExitFailure, "its sandbox is gone, and there is left: interface " + orphan.LinkName()},
		{containerID(1)[:12], containerID(21)[:12], ui.ExitOK, "arrives at "},
		{"outside:192.0.2.100", "192.0.2.1:8001", ui.ExitOK, "arrives at "},
	} {
		out, exit := n.status("", "explain", tt.from, tt.to)
		if exit != tt.exit || !strings.Contains(out, tt.want) {
			n.t.Errorf("explain %s %s: exit %d, no %q in\n%s", tt.from, tt.to, exit, tt.want, out)
		}
		n.t.Logf("# cnibox explain %s %s\n%s", tt.from, tt.to, out)
	}
}

// BenchmarkDoctor is a node of 1,000 attachments.
func BenchmarkDoctor(b *testing.B) {
	n := newShownNode(b)
	populate(b, n, 1000)
	for _, args := range [][]string{{"doctor"}, {"doctor", "--only", "filter"}, {"gc", "--from", "-", "--none-living"}, {"ipam", "list"}} {
		b.Run(strings.Join(args, " "), func(b *testing.B) {
			for b.Loop() {
				_, _ = n.status("", args...)
			}
		})
	}
}
