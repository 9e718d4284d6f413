package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// makeNodes makes the outside, with a bridge to which the nodes are connected, and boots those.
func (c *cluster) makeNodes() (string, error) {
	if err := nstest.Create(outside); err != nil {
		return "", err
	}
	if err := ipOutside("link set lo up", "link add lan type bridge", "addr add "+apiAddr+"/24 dev lan", "link set lan up"); err != nil {
		return "", err
	}
	if err := serve(outside, podPort); err != nil {
		return "", err
	}
	told := "outside " + apiAddr
	for _, n := range c.nodes {
		if err := errors.Join(n.boot(), c.plug(n)); err != nil {
			return "", err
		}
		told += ", node " + n.name + " " + n.addr
	}
	return told, nil
}

// ipOutside calls ip(8) on the outside, once a line.
func ipOutside(lines ...string) error {
	for _, line := range lines {
		if err := onOutside(func() error { _, err := run("ip", strings.Fields(line)...); return err }); err != nil {
			return err
		}
	}
	return nil
}

// plug connects a node to the others and to the outside, always by the same MAC address, as it is with machines.
func (c *cluster) plug(n *node) error {
	err := ipOutside(
		fmt.Sprintf("link add %s type veth peer name uplink address 02:00:00:00:00:%02d netns %s", n.port(), n.number, n.netns),
		"link set "+n.port()+" master lan up",
	)
	if err != nil {
		return err
	}
	for _, line := range []string{
		"link set lo up", "addr add " + n.addr + "/24 dev uplink", "link set uplink up", "route add default via " + apiAddr,
	} {
		if _, err := n.call("ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

const peersFile = "/cni-peers.json" // below /var/lib, as the list says

// installAll makes both nodes parts of one network.
func (c *cluster) installAll() (told string, err error) {
	for _, n := range c.nodes {
		if _, err := n.call(c.executable, "install", "--dir", farm); err != nil {
			return "", err
		}
		if err := n.on(func() error { told, err = installed(farm); return err }); err != nil {
			return "", err
		}
		dir := n.varLib + strings.TrimPrefix(confDir, "/var/lib")
		err := errors.Join(c.writePeers(n), os.MkdirAll(dir, 0o755), configureIn(dir, "kubenet", "NODE", strconv.Itoa(n.number)))
		if err != nil {
			return "", err
		}
	}
	return told, nil
}

// writePeers tells a node of all.
func (c *cluster) writePeers(n *node) error {
	var peers []object
	for _, p := range c.nodes {
		peers = append(peers, object{
			"name": p.name, "underlay": []string{p.addr},
			"subnets": []string{fmt.Sprintf("10.244.%d.0/24", p.number), fmt.Sprintf("fd00:244:%d::/64", p.number)},
		})
	}
	return n.write(peersFile, peers)
}

// write replaces a file below a node's /var/lib.
func (n *node) write(name string, content any) error {
	raw, err := json.Marshal(content)
	if err != nil {
		return err
	}
	return replaceFile(n.varLib+name, raw)
}

// startNodes starts what each node has, and waits until both can have pods.
func (c *cluster) startNodes() (string, error) {
	if err := c.prefer("containerd2"); err != nil {
		return "", err
	}
	tar, err := c.makeImage()
	if err != nil {
		return "", err
	}
	for _, n := range c.nodes {
		if err := errors.Join(os.Link(tar, n.varLib+"/e2e/image.tar"), c.configureNode(n), c.startNode(n)); err != nil {
			return "", err
		}
		err := waitFor(patience, "the API server knows node "+n.name, func() (bool, error) {
			_, err := c.kubectl(nil, "get", "node", n.name)
			return err == nil, err
		})
		if err != nil {
			return "", err
		}
	}
	if err := c.wait("wait", "--for", "condition=Ready", "nodes", "--all"); err != nil {
		return "", err
	}
	versions, err := runtimes()
	return "both nodes are ready; " + versions, err
}

// configureNode writes what a node's daemons read.
func (c *cluster) configureNode(n *node) error {
	kubeletConf := object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"authentication":           object{"anonymous": object{"enabled": true}, "webhook": object{"enabled": false}},
		"authorization":            object{"mode": "AlwaysAllow"},
		"containerRuntimeEndpoint": "unix://" + socket,
		"volumePluginDir":          "/var/lib/kubelet/plugins",
		"makeIPTablesUtilChains":   false,
		// What it runs is below a control group of ours. The machine's own groups, swap and disk are none of its business.
		"cgroupDriver": "cgroupfs", "cgroupRoot": "/" + n.group(), "enforceNodeAllocatable": []string{},
		"failCgroupV1": false, "failSwapOn": false, "oomScoreAdj": 0, "localStorageCapacityIsolation": false,
		"evictionHard":                object{"memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
		"imageGCHighThresholdPercent": 100,
	}
	proxyConf := object{
		"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
		"mode": "nftables", "clusterCIDR": "10.244.0.0/16", "hostnameOverride": n.name, "oomScoreAdj": 0,
		"clientConnection": object{"kubeconfig": home + "/proxy-access.json"},
		"conntrack":        object{"maxPerCore": 0, "min": 0}, // which are the machine's
	}
	err := errors.Join(
		n.write("/e2e/kubelet.json", kubeletConf), n.write("/e2e/kube-proxy.json", proxyConf),
		os.WriteFile(n.varLib+"/e2e/containerd.toml", []byte(containerd2Conf), 0o600),
	)
	for name, user := range map[string]string{"kubelet": kubelet + n.name, "proxy": proxy} {
		err = errors.Join(err, os.Link(access(user), n.varLib+"/e2e/"+name+"-access.json"))
	}
	return err
}

// startNode starts a node's daemons.
func (c *cluster) startNode(n *node) error {
	if err := n.serve(exec.Command("containerd", "--config", home+"/containerd.toml")); err != nil {
		return err
	}
	err := waitFor(patience, "containerd has the image", func() (bool, error) {
		_, err := n.call("ctr", "--namespace", "k8s.io", "images", "import", home+"/image.tar")
		return err == nil, err
	})
	if err != nil {
		return err
	}
	return errors.Join(c.startKubelet(n), n.serve(c.kube("kube-proxy", "--config", home+"/kube-proxy.json")))
}

func (c *cluster) startKubelet(n *node) error {
	return n.serve(c.kube("kubelet", "--config", home+"/kubelet.json", "--kubeconfig", home+"/kubelet-access.json",
		"--hostname-override", n.name, "--node-ip", n.addr))
}
