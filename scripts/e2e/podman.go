package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// podman is the scene of a client that makes its configurations itself.
type podman struct {
	*host
	web, webTwo string // addresses of the container web
}

func podmanSteps(h *host) []step {
	p := &podman{host: h}
	return []step{
		{"load an image", p.load},
		{"network create one and two", p.createNetworks},
		{"run web in one, with a port of the host", p.runWeb},
		{"run client in one", func() (string, error) { return p.start("client", "one") }},
		{"run other in two", func() (string, error) { return p.start("other", "two") }},
		{"gc: podman has all three", func() (string, error) { return p.living("podman", 3) }},
		{"client to web, IPv4", func() (string, error) { return p.ask("client", join(p.web, podPort)) }},
		{"client to web, IPv6", p.askIPv6},
		{"client to the outside, masqueraded", p.masqueraded},
		{"outside to web, through the host's port", p.throughHostPort},
		{"web to itself, through the host's port", func() (string, error) { return p.ask("web", join(hostAddr, hostPort)) }},
		{"run with --ip and --mac-address", p.runPinned},
		{"the same address again is refused", p.pinnedTaken},
		{"the same port again is refused", p.portTaken},
		{"network connect two web; other to web", p.connect},
		{"run both in both networks at once", p.runBoth},
		{"network disconnect two web", p.disconnect},
		{"network disconnect one both; its port", p.disconnectFirst},
		{"nft flush ruleset; network reload", p.reload},
		{"client to web, as before", func() (string, error) { return p.ask("client", join(p.web, podPort)) }},
		{"restart web", p.restart},
		{"the host is reset; start web", p.reset},
		{"gc: podman has those that do not run, too", func() (string, error) { return p.living("podman", 0) }},
		{"start all; pinned has its address", p.startAll},
		{"rm all", p.removeAll},
		{"network rm one and two", p.removeNetworks},
		{"nothing is left", func() (string, error) { return nothingLeft() }},
	}
}

// The settings that keep podman in its own folders and to what a container may do here.
const (
	podmanConf = `[containers]
default_ulimits = []
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "cni"
cni_plugin_dirs = ["` + farm + `"]
network_config_dir = "` + confDir + `"
`
	storageConf = `[storage]
driver = "overlay"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
`
)

// secondPort is one of the host that leads to a container in both networks.
const secondPort = hostPort + 1

// call calls podman on the host.
func (p *podman) call(args ...string) (string, error) {
	out, err := p.run("podman", args...)
	return strings.TrimSpace(out), err
}

func (p *podman) load() (string, error) {
	for variable, text := range map[string]string{"CONTAINERS_CONF": podmanConf, "CONTAINERS_STORAGE_CONF": storageConf} {
		path := filepath.Join(home, strings.ToLower(variable))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		if err := os.Setenv(variable, path); err != nil {
			return "", err
		}
	}
	tar, err := p.makeImage()
	if err != nil {
		return "", err
	}
	if _, err := p.call("load", "--quiet", "--input", tar); err != nil {
		return "", err
	}
	return p.call("info", "--format", "podman {{.Version.Version}}, back end {{.Host.NetworkBackend}}, runtime {{.Host.OCIRuntime.Name}}")
}

func (p *podman) createNetworks() (string, error) {
	if _, err := p.call("network", "create", "--subnet", "10.247.0.0/24", "--subnet", "fd00:247::/64", "--ipv6", "one"); err != nil {
		return "", err
	}
	if _, err := p.call("network", "create", "--subnet", "10.248.0.0/24", "two"); err != nil {
		return "", err
	}
	out, err := p.call("network", "ls", "--format", "{{.Name}} ({{.Driver}})")
	return strings.ReplaceAll(out, "\n", ", "), err
}

// start runs a container that serves. More is for podman run.
func (p *podman) start(name, network string, more ...string) (addr string, err error) {
	args := append([]string{"run", "--detach", "--name", name, "--network", network, "--cgroup-parent", "/" + p.cgroup}, more...)
	if _, err := p.call(append(args, image, "serve", strconv.Itoa(podPort))...); err != nil {
		return "", err
	}
	network, _, _ = strings.Cut(network, ",")
	return p.started(name, network)
}

// started is addr of a container that has just been started.
func (p *podman) started(name, network string) (string, error) {
	addr, err := p.addr(name, network)
	if err != nil {
		return "", err
	}
	return addr, listening(addr)
}

// addr is the IPv4 address of a container in a network.
func (p *podman) addr(name, network string) (string, error) {
	addr, err := p.call("inspect", "--format", fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", network), name)
	if err == nil && addr == "" {
		err = fmt.Errorf("%s has no address in %s", name, network)
	}
	return addr, err
}

func (p *podman) ask(name, to string) (string, error) {
	seen, err := p.call("exec", name, "/guest", "ask", to)
	return fmt.Sprintf("%s answered; it saw %s", to, seen), err
}

func (p *podman) runWeb() (_ string, err error) {
	p.web, err = p.start("web", "one", "--publish", fmt.Sprintf("%d:%d", hostPort, podPort))
	return p.web, err
}

func (p *podman) askIPv6() (string, error) {
	addr, err := p.call("inspect", "--format", "{{(index .NetworkSettings.Networks \"one\").GlobalIPv6Address}}", "web")
	if err != nil {
		return "", err
	}
	return p.ask("client", join(addr, podPort))
}

func (p *podman) masqueraded() (string, error) {
	answer, err := p.ask("client", join(farAddr, podPort))
	if err == nil && !strings.HasSuffix(answer, " "+hostAddr) {
		err = fmt.Errorf("the outside saw another source than the host: %s", answer)
	}
	return answer, err
}

func (p *podman) throughHostPort() (string, error) { return ask(outside, hostAddr, hostPort, farAddr) }

func (p *podman) runPinned() (string, error) {
	const addr, mac = "10.247.0.77", "02:00:00:00:00:77"
	got, err := p.start("pinned", "one", "--ip", addr, "--mac-address", mac)
	if err != nil {
		return "", err
	}
	link, err := p.call("inspect", "--format", "{{(index .NetworkSettings.Networks \"one\").MacAddress}}", "pinned")
	if err != nil || got != addr || link != mac {
		return "", fmt.Errorf("it has %s and %s (%w)", got, link, err)
	}
	return p.ask("client", join(addr, podPort))
}

// refused tries to run a container, which has to fail for a reason, and looks whether anything of it stays.
func (p *podman) refused(reason string, more ...string) (string, error) {
	before, err := reserved("one")
	if err != nil {
		return "", err
	}
	_, err = p.start("refused", "one", more...)
	if err == nil || !strings.Contains(err.Error(), reason) {
		return "", fmt.Errorf("it says %w", err)
	}
	said := err.Error()
	if _, err := p.call("rm", "--force", "refused"); err != nil {
		return "", err
	}
	said = strings.TrimSpace(said[strings.LastIndex(said, ": ")+2:])
	return said, wantReserved("one", before...)
}

func (p *podman) pinnedTaken() (string, error) {
	return p.refused("10.247.0.77", "--ip", "10.247.0.77")
}

func (p *podman) portTaken() (string, error) {
	return p.refused(strconv.Itoa(hostPort), "--publish", fmt.Sprintf("%d:%d", hostPort, podPort))
}

func (p *podman) connect() (_ string, err error) {
	if _, err := p.call("network", "connect", "two", "web"); err != nil {
		return "", err
	}
	if p.webTwo, err = p.addr("web", "two"); err != nil {
		return "", err
	}
	return p.ask("other", join(p.webTwo, podPort))
}

func (p *podman) runBoth() (string, error) {
	if _, err := p.start("both", "one,two", "--publish", fmt.Sprintf("%d:%d", secondPort, podPort)); err != nil {
		return "", err
	}
	var answers []string
	for _, addr := range []string{p.web, p.webTwo} {
		answer, err := p.ask("both", join(addr, podPort))
		if err != nil {
			return "", err
		}
		answers = append(answers, answer)
	}
	return strings.Join(answers, "; "), nil
}

func (p *podman) disconnect() (string, error) {
	if _, err := p.call("network", "disconnect", "two", "web"); err != nil {
		return "", err
	}
	if err := wantSilence(hostNS, p.webTwo, podPort); err != nil {
		return "", err
	}
	addrs, err := reserved("two")
	if err != nil || len(addrs) != 2 {
		return "", fmt.Errorf("%q are reserved in two (%w)", addrs, err)
	}
	if _, err := p.throughHostPort(); err != nil {
		return "", fmt.Errorf("the other network: %w", err)
	}
	return p.webTwo + " is free, one as before", nil
}

// disconnectFirst leaves a container in one of its networks, through which its published port has to be reached.
func (p *podman) disconnectFirst() (string, error) {
	if _, err := ask(outside, hostAddr, secondPort, farAddr); err != nil {
		return "", fmt.Errorf("before: %w", err)
	}
	if _, err := p.call("network", "disconnect", "one", "both"); err != nil {
		return "", err
	}
	return ask(outside, hostAddr, secondPort, farAddr)
}

// reload does what a firewall's restart does, and has podman put the rules back.
func (p *podman) reload() (string, error) {
	if _, err := p.run("nft", "flush", "ruleset"); err != nil {
		return "", err
	}
	if err := wantSilence(outside, hostAddr, hostPort); err != nil {
		return "", err
	}
	if _, err := p.call("network", "reload", "--all"); err != nil {
		return "", err
	}
	if _, err := p.masqueraded(); err != nil {
		return "", err
	}
	addr, err := p.addr("web", "one")
	if err != nil || addr != p.web {
		return "", fmt.Errorf("web has the address %s, and not %s (%w)", addr, p.web, err)
	}
	return p.throughHostPort()
}

func (p *podman) restart() (_ string, err error) {
	if _, err := p.call("restart", "--time", "2", "web"); err != nil {
		return "", err
	}
	if p.web, err = p.started("web", "one"); err != nil {
		return "", err
	}
	return p.throughHostPort()
}

// reset has the host lose all but its disk, and starts a container again. Podman has the reserved addresses removed at boot, by systemd
// (/usr/lib/tmpfiles.d/podman.conf), of which there is none here: its containers keep their IDs, and would have an address already.
func (p *podman) reset() (_ string, err error) {
	if err := p.reboot(); err != nil {
		return "", err
	}
	if _, err := p.makeNetwork(); err != nil {
		return "", err
	}
	if err := os.RemoveAll("/var/lib/cni/networks"); err != nil {
		return "", err
	}
	if _, err := p.call("start", "web"); err != nil {
		return "", err
	}
	if p.web, err = p.started("web", "one"); err != nil {
		return "", err
	}
	return p.throughHostPort()
}

// startAll starts the others. Of those that are not started, podman would call no DEL, and leave what libcni has cached.
func (p *podman) startAll() (string, error) {
	if _, err := p.call("start", "--all"); err != nil {
		return "", err
	}
	addr, err := p.started("pinned", "one")
	if err != nil {
		return "", err
	}
	return p.ask("client", join(addr, podPort))
}

func (p *podman) removeAll() (string, error) {
	if _, err := p.call("rm", "--all", "--force", "--time", "2"); err != nil {
		return "", err
	}
	if err := wantSilence(outside, hostAddr, hostPort); err != nil {
		return "", err
	}
	for _, network := range []string{"one", "two"} {
		if err := wantReserved(network); err != nil {
			return "", err
		}
	}
	return "all addresses and the host's port are free", nil
}

func (p *podman) removeNetworks() (string, error) {
	out, err := p.call("network", "rm", "one", "two")
	return strings.ReplaceAll(out, "\n", ", "), err
}
