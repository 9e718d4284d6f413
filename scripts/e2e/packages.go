package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

// packages is the scene of a package manager: it installs, upgrades and removes what `make dist` has made, while pods talk.
type packages struct {
	*host
	manager packageManager
	network *libcni.NetworkConfigList
	pods    []*pod
}

// packageManager is how packages of a kind are handled. Each is a command line, the package behind it.
type packageManager struct {
	kind                    string
	install, upgrade, erase []string
	purge                   []string // what erase leaves
	version                 []string // tells what is installed
	arch                    []string // tells what the machine is called
}

func packageManagers() []packageManager {
	dpkg := func(args ...string) []string { return append([]string{"dpkg", "--log=/dev/null"}, args...) }
	return []packageManager{
		{
			kind: "deb", install: dpkg("--install"), upgrade: dpkg("--install"), erase: dpkg("--remove", "cnibox"), purge: dpkg("--purge", "cnibox"),
			version: []string{"dpkg-query", "--show", "--showformat", "${Version}", "cnibox"},
			arch:    []string{"dpkg", "--print-architecture"},
		},
		{
			kind: "rpm", install: []string{"rpm", "--install"}, upgrade: []string{"rpm", "--upgrade"}, erase: []string{"rpm", "--erase", "cnibox"},
			version: []string{"rpm", "--query", "--queryformat", "%{VERSION}", "cnibox"},
			arch:    []string{"rpm", "--eval", "%_arch"},
		},
	}
}

const (
	standardFarm = "/opt/cni/bin"
	oldVersion   = "0.1.0"
	newVersion   = "0.2.0"
)

func packagesSteps(h *host) []step {
	steps := []step{{"make a host and an outside", h.makeNetwork}, {"cover /usr, /etc, /opt and /var", coverFolders}}
	for _, m := range packageManagers() {
		p := &packages{host: h, manager: m}
		steps = append(steps, []step{
			{m.kind + ": install " + oldVersion + ", beside a plugin of others", p.installOld},
			{"run pod one, with a port of the host", p.run},
			{"upgrade to " + newVersion + ", while pod one talks", p.upgrade},
			{"run pod two; it and the host to pod one", p.runSecond},
			{"enable the units", p.enable},
			{"remove it, while the pods talk", p.remove},
			{"install " + newVersion + " again; DEL of both pods", p.detach},
			{"remove and purge; nothing is left", p.purge},
		}...)
	}
	return append(steps,
		step{"unpack the archive into a folder of plugins", h.archive},
		step{"unpack the image; it installs into other folders", h.image},
		step{"containerd imports the image and runs it", h.containerImage},
	)
}

// made is the path of a file that make dist has made of a version.
func (h *host) made(version, pattern string) (string, error) {
	paths, err := filepath.Glob(h.program("packages/v" + version + "/" + pattern))
	if err == nil && len(paths) != 1 {
		err = fmt.Errorf("%s of %s: %q", pattern, version, paths)
	}
	if err != nil {
		return "", err
	}
	return paths[0], nil
}

// manage calls the package manager.
func (p *packages) manage(command []string, version string) (string, error) {
	args := slices.Clone(command[1:])
	if version != "" {
		arch, err := run(p.manager.arch[0], p.manager.arch[1:]...)
		if err != nil {
			return "", err
		}
		path, err := p.made(version, "*"+strings.TrimSpace(arch)+"."+p.manager.kind)
		if err != nil {
			return "", err
		}
		args = append(args, path)
	}
	return p.host.run(command[0], args...)
}

// foreign is a plugin that somebody else has put there.
const foreign = standardFarm + "/ptp"

func (p *packages) installOld() (string, error) {
	if err := errors.Join(os.MkdirAll(standardFarm, 0o755), os.WriteFile(foreign, []byte("#!/bin/false\n"), 0o755)); err != nil {
		return "", err
	}
	said, err := p.manage(p.manager.install, oldVersion)
	if err != nil {
		return "", err
	}
	if !strings.Contains(said, "not cnibox's, so left alone: ptp\n") {
		return "", fmt.Errorf("it does not tell of the other plugin: %s", said)
	}
	return "it says: left alone: ptp", p.wantInstalled(oldVersion)
}

// wantInstalled compares what there is with a version's plugins.
func (p *packages) wantInstalled(version string) error {
	is, err := run(p.manager.version[0], p.manager.version[1:]...)
	if err != nil {
		return err
	}
	said, err := run(standardFarm+"/cnibox", "version")
	if err != nil {
		return err
	}
	if is != version || !strings.HasPrefix(said, "cnibox v"+version+"\n") {
		return fmt.Errorf("the package is %s, the plugins are %s; want %s", is, said, version)
	}
	if target, err := os.Readlink(standardFarm + "/bridge"); target != "cnibox" {
		return fmt.Errorf("bridge leads to %q (%w)", target, err)
	}
	return p.wantForeign()
}

func (p *packages) wantForeign() error {
	text, err := os.ReadFile(foreign)
	if err == nil && string(text) != "#!/bin/false\n" {
		err = fmt.Errorf("%s was changed", foreign)
	}
	return err
}

// run attaches another pod by the installed plugins, as a runtime does.
func (p *packages) run() (string, error) {
	if p.network == nil {
		if err := p.configure("podnet", "1.1.0"); err != nil {
			return "", err
		}
		list, err := libcni.LoadNetworkConf(confDir, "podnet")
		if err != nil {
			return "", err
		}
		p.network = list
	}
	pd := &pod{netns: private.NetNS(fmt.Sprintf("%s-%d", p.manager.kind, len(p.pods)))}
	if err := nstest.Create(pd.netns); err != nil {
		return "", err
	}
	err := p.on(func() error {
		raw, err := p.cni().AddNetworkList(context.Background(), p.network, p.runtimeConf(pd))
		if err != nil {
			return err
		}
		result, err := types100.GetResult(raw)
		if err != nil {
			return err
		}
		for _, ip := range result.IPs {
			pd.addrs = append(pd.addrs, ip.Address.IP.String())
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	p.pods = append(p.pods, pd)
	return strings.Join(pd.addrs, ", "), serve(pd.netns, podPort)
}

func (p *packages) cni() *libcni.CNIConfig { return libcni.NewCNIConfig([]string{standardFarm}, nil) }

func (p *packages) runtimeConf(pd *pod) *libcni.RuntimeConf {
	conf := &libcni.RuntimeConf{ContainerID: filepath.Base(pd.netns), NetNS: pd.netns, IfName: "eth0"}
	if strings.HasSuffix(pd.netns, "-0") {
		conf.CapabilityArgs = map[string]any{"portMappings": []object{{"hostPort": hostPort, "containerPort": podPort, "protocol": "tcp"}}}
	}
	return conf
}

// whilePodTalks does something while the host and the first pod talk, and wants the pod's port to lead to it before and after.
func (p *packages) whilePodTalks(fn func() error) (string, error) {
	longest, err := whileTalking(hostNS, p.pods[0].netns, p.pods[0].addrs[0], fn)
	if err != nil {
		return "", err
	}
	if _, err := ask(outside, hostAddr, hostPort, farAddr); err != nil {
		return "", err
	}
	return fmt.Sprintf("its connection waited for %.1f ms at most", milliseconds(longest)), nil
}

func (p *packages) upgrade() (string, error) {
	seen, err := p.whilePodTalks(func() error {
		_, err := p.manage(p.manager.upgrade, newVersion)
		return err
	})
	if err != nil {
		return "", err
	}
	return seen, p.wantInstalled(newVersion)
}

func (p *packages) runSecond() (string, error) {
	addrs, err := p.run()
	if err != nil {
		return "", err
	}
	_, err = ask(p.pods[1].netns, p.pods[0].addrs[0], podPort, p.pods[1].addrs[0])
	return addrs, err
}

// enable has systemd's program, which needs no systemd for it, link the units. Removal has to undo that.
func (p *packages) enable() (string, error) {
	units, err := filepath.Glob("/usr/lib/systemd/system/cnibox-*")
	if err != nil || len(units) < 6 {
		return "", fmt.Errorf("units: %q (%w)", units, err)
	}
	if _, err := run("systemd-analyze", append([]string{"verify"}, units...)...); err != nil {
		return "", err
	}
	names := []string{"cnibox-dhcp.socket", "cnibox-dhcp.service", "cnibox-sync.timer", "cnibox-sync.service", "cnibox-overlay-sync.timer", "cnibox-overlay-sync.service"}
	if _, err := run("systemctl", append([]string{"--no-reload", "enable"}, names...)...); err != nil {
		return "", err
	}
	links, err := filepath.Glob("/etc/systemd/system/*.wants/cnibox-*")
	if err == nil && len(links) < len(names) {
		err = fmt.Errorf("links: %q", links)
	}
	return fmt.Sprintf("%d units, %d links; systemd-analyze verify has nothing to say", len(units), len(links)), err
}

func (p *packages) remove() (string, error) {
	var said string
	seen, err := p.whilePodTalks(func() (err error) {
		said, err = p.manage(p.manager.erase, "")
		return err
	})
	if err != nil {
		return "", err
	}
	if !strings.Contains(said, "pods that run keep their network") {
		return "", fmt.Errorf("it says nothing of pods: %s", said)
	}
	left, err := os.ReadDir(standardFarm)
	if err != nil || len(left) != 1 {
		return "", fmt.Errorf("left in %s: %v (%w)", standardFarm, left, err)
	}
	return seen + "; only ptp is left", p.wantForeign()
}

func (p *packages) detach() (string, error) {
	if _, err := p.manage(p.manager.install, newVersion); err != nil {
		return "", err
	}
	for _, pd := range p.pods {
		err := p.on(func() error { return p.cni().DelNetworkList(context.Background(), p.network, p.runtimeConf(pd)) })
		if err := errors.Join(err, unix.Unmount(pd.netns, unix.MNT_DETACH), os.Remove(pd.netns)); err != nil {
			return "", err
		}
	}
	return nothingLeft("cni0")
}

func (p *packages) purge() (string, error) {
	if err := os.Remove(foreign); err != nil {
		return "", err
	}
	for _, command := range [][]string{p.manager.erase, p.manager.purge} {
		if command == nil {
			continue
		}
		if _, err := p.manage(command, ""); err != nil {
			return "", err
		}
	}
	left, err := coveredChanges()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("left over: %s", strings.Join(left, ", "))
	}
	return "no file, link or folder more than before", err
}
