package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

const (
	hostAddr    = "192.0.2.1"
	outsideAddr = "192.0.2.100"
	hostPort    = 8080
	podPort     = 80
)

// demo is one run of the demonstration.
type demo struct {
	runtime *runtime
	pods    []*pod
	step    int
}

// do runs one step and prints it as a line with the time it took.
func (d *demo) do(what string, fn func() (string, error)) error {
	d.step++
	start := time.Now()
	seen, err := fn()
	took := time.Since(start)
	if err != nil {
		fmt.Printf("%2d  FAILED  %s: %v\n", d.step, what, err)
		return fmt.Errorf("step %d: %s: %w", d.step, what, err)
	}
	fmt.Printf("%2d  %7.1f ms  %-44s %s\n", d.step, float64(took.Microseconds())/1000, what, seen)
	return nil
}

type step struct {
	what string
	fn   func() (string, error)
}

func show(executable, confFile string) error {
	farm, err := os.MkdirTemp("", "cnibox-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(farm) }()
	conf, err := os.ReadFile(confFile)
	if err != nil {
		return err
	}
	if err := private.Folders(); err != nil {
		return err
	}
	d := &demo{}
	if d.runtime, err = newRuntime(conf, farm); err != nil {
		return err
	}
	fmt.Printf("cnibox: %s and a portmap behind it, for three pods\n\n", confFile)
	for _, s := range d.steps(executable, farm) {
		if err := d.do(s.what, s.fn); err != nil {
			return err
		}
	}
	fmt.Print(d.drawing())
	return nil
}

func (d *demo) steps(executable, farm string) []step {
	steps := []step{
		{"make a host and an outside", d.makeHost},
		{"install the plugins", func() (string, error) { return install(executable, farm) }},
	}
	for _, name := range []string{"pod-a", "pod-b", "pod-c"} {
		steps = append(steps, step{"ADD " + name, func() (string, error) { return d.add(name) }})
	}
	return append(steps,
		step{"pod-a to pod-b", func() (string, error) { return d.pods[0].greet(d.pods[1].addr, podPort) }},
		step{"pod-b to pod-a", func() (string, error) { return d.pods[1].greet(d.pods[0].addr, podPort) }},
		step{"pod-c to the host", func() (string, error) { return d.pods[2].greet("10.244.0.1", podPort) }},
		step{"pod-a to the outside, masqueraded", func() (string, error) { return d.masqueraded() }},
		step{"outside to pod-a, through a host port", d.throughHostPort},
		step{"pod-a to itself, through its host port", func() (string, error) { return d.pods[0].greet(hostAddr, hostPort) }},
		step{"CHECK all three", d.check},
		step{"the runtime forgets pod-c; GC finds it", d.forgetAndCollect},
		step{"DEL pod-a and pod-b", d.del},
		step{"nothing is left", d.nothingLeft},
	)
}

// makeHost turns the process's own namespace into a host with one link to the outside.
func (d *demo) makeHost() (string, error) {
	if err := nstest.Create(private.NetNS("outside")); err != nil {
		return "", err
	}
	for _, line := range []string{
		"link set lo up",
		"link add uplink type veth peer name eth0 netns outside",
		"addr add " + hostAddr + "/24 dev uplink",
		"link set uplink up",
		"-n outside addr add " + outsideAddr + "/24 dev eth0",
		"-n outside link set eth0 up",
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("ip %s: %w: %s", line, err, out)
		}
	}
	if err := serve("", podPort); err != nil {
		return "", err
	}
	if err := serve(private.NetNS("outside"), podPort); err != nil {
		return "", err
	}
	return "host " + hostAddr + ", outside " + outsideAddr, nil
}

func install(executable, farm string) (string, error) {
	out, err := exec.Command(executable, "install", "--dir", farm).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	entries, err := os.ReadDir(farm)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(filepath.Join(farm, "cnibox"))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d plugins, one executable of %.1f MB", len(entries)-1, float64(info.Size())/1e6), nil
}

func (d *demo) add(name string) (string, error) {
	p := &pod{name: name}
	if err := nstest.Create(private.NetNS(name)); err != nil {
		return "", err
	}
	ports := ""
	if len(d.pods) == 0 {
		p.hostPort = hostPort
		ports = fmt.Sprintf(", %s:%d leads to its port %d", hostAddr, hostPort, podPort)
	}
	if err := d.runtime.add(context.Background(), p); err != nil {
		return "", err
	}
	d.pods = append(d.pods, p)
	return p.addr + ports, serve(private.NetNS(name), podPort)
}

func (d *demo) masqueraded() (string, error) {
	answer, err := d.pods[0].greet(outsideAddr, podPort)
	if err == nil && !strings.Contains(answer, hostAddr) {
		err = fmt.Errorf("the outside saw another source than the host: %s", answer)
	}
	return answer, err
}

func (d *demo) throughHostPort() (string, error) {
	return (&pod{name: "outside"}).greet(hostAddr, hostPort)
}

func (d *demo) check() (string, error) {
	for _, p := range d.pods {
		if err := d.runtime.check(context.Background(), p); err != nil {
			return "", fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return "all as ADD made it", nil
}
