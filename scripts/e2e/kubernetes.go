package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// cluster is the scene of Kubernetes: two nodes, and the outside, where its other parts are.
type cluster struct {
	*host
	nodes   []*node
	service string // address
}

func kubernetesSteps(h *host) []step {
	c := &cluster{host: h, nodes: []*node{
		{host: h, name: "a", number: 1, addr: "192.0.2.11"}, {host: h, name: "b", number: 2, addr: "192.0.2.12"},
	}}
	steps := []step{
		{"make two nodes, and a network between them", c.makeNodes},
		{"install all plugins, one network's lists", c.installAll},
		{"start what there is once in a cluster", c.startControl},
		{"start containerd, kubelet, kube-proxy", c.startNodes},
		{"a Deployment of six pods", c.deploy},
		{"each pod to each other, IPv4 and IPv6", c.reachAll},
		{"pods to the outside, masqueraded", c.reachOutside},
		{"a pod of each node to a Service of all", c.reachService},
		{"a DaemonSet with a port of the nodes", c.publish},
		{"outside and pods to that port of each node", c.reachPublished},
		{"kubelet a is killed and started again", c.restartKubelet},
		{"the list of peers of a is broken, and mended", c.breakPeers},
	}
	for range 3 {
		steps = append(steps, step{"40 pods more; delete all of them at once", c.storm})
	}
	return append(steps, []step{
		{"node b is reset, with its pods running", c.reset},
		{"each pod to each other, as before", c.reachAll},
		{"a pod of each node to the Service, as before", c.reachService},
		{"outside and pods to that port, as before", c.reachPublished},
		{"delete all; nothing is left on either node", c.deleteAll},
	}...)
}

func (c *cluster) deploy() (string, error) {
	if err := c.rollOut(workload("Deployment", "web", 6), "deployment/web"); err != nil {
		return "", err
	}
	return c.spread("app=web")
}

// reachAll has each pod ask each other, which has to see its address.
func (c *cluster) reachAll() (string, error) {
	pods, err := c.pods("--selector", "app=web")
	if err != nil {
		return "", err
	}
	asked := 0
	for i := range pods {
		var servers, own []string
		for j := range pods {
			if i == j {
				continue
			}
			for family, addr := range pods[j].addrs() {
				servers, own = append(servers, join(addr, podPort)), append(own, pods[i].addrs()[family])
			}
		}
		met, err := c.meet(&pods[i], servers...)
		if err != nil {
			return "", err
		}
		for k, m := range met {
			if m.seen != own[k] {
				return "", fmt.Errorf("%s saw %s, and not %s", servers[k], m.seen, own[k])
			}
		}
		asked += len(servers)
	}
	return fmt.Sprintf("%d connections of %d pods, each seen as itself", asked, len(pods)), nil
}

func (c *cluster) reachOutside() (string, error) {
	var told []string
	err := c.ofEachNode(func(n *node, p *kubePod) error {
		met, err := c.meet(p, join(apiAddr, podPort))
		if err == nil && met[0].seen != n.addr {
			err = fmt.Errorf("the outside saw %s of node %s, and not %s", met[0].seen, n.name, n.addr)
		}
		told = append(told, n.addr)
		return err
	})
	return "seen as " + strings.Join(told, " and "), err
}

const servicePort = 80

// reachService asks a Service so often that it would be a wonder if not each node's pods answered.
func (c *cluster) reachService() (string, error) {
	if c.service == "" {
		if err := c.expose(); err != nil {
			return "", err
		}
	}
	servers := slices.Repeat([]string{join(c.service, servicePort)}, 30)
	var told []string
	err := c.ofEachNode(func(n *node, p *kubePod) error {
		met, err := c.meet(p, servers...)
		if err != nil {
			return err
		}
		answered := map[string]int{} // by the third byte, which is the node's number
		for _, m := range met {
			if own := p.addrs()[0]; m.seen != own && m.at != own { // to itself, it comes by way of its node
				return fmt.Errorf("%s saw %s, and not %s", m.at, m.seen, own)
			}
			answered[strings.Split(m.at, ".")[2]]++
		}
		if len(answered) != len(c.nodes) {
			return fmt.Errorf("pods of %d nodes answered: %v", len(answered), answered)
		}
		told = append(told, fmt.Sprintf("%s: %d by a, %d by b", n.name, answered["1"], answered["2"]))
		return nil
	})
	return c.service + "; " + strings.Join(told, "; "), err
}

// expose makes a Service of web, and waits until a node's own programs reach it through the rules of kube-proxy.
func (c *cluster) expose() error {
	_, err := c.kubectl(nil, "expose", "deployment", "web", "--port", strconv.Itoa(servicePort), "--target-port", strconv.Itoa(podPort))
	if err != nil {
		return err
	}
	var made struct{ Spec struct{ ClusterIP string } }
	if err := c.get(&made, "get", "service", "web"); err != nil {
		return err
	}
	c.service = made.Spec.ClusterIP
	for _, n := range c.nodes {
		err := waitFor(patience, "node "+n.name+" knows the Service", func() (bool, error) {
			_, err := ask(n.netns, c.service, servicePort, "")
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) publish() (string, error) {
	edge := workload("DaemonSet", "edge", 0, object{"containerPort": podPort, "hostPort": hostPort})
	if err := c.rollOut(edge, "daemonset/edge"); err != nil {
		return "", err
	}
	return c.spread("app=edge")
}

// reachPublished asks the published port of each node, from the outside and from a pod of each node.
func (c *cluster) reachPublished() (string, error) {
	pods, err := c.pods("--selector", "app=edge")
	if err != nil {
		return "", err
	}
	for _, n := range c.nodes {
		if _, err := ask(outside, n.addr, hostPort, apiAddr); err != nil {
			return "", err
		}
		for i := range pods {
			if _, err := c.meet(&pods[i], join(n.addr, hostPort)); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("all answered; the outside is seen as %s", apiAddr), nil
}

// restartKubelet kills a kubelet. The pods must run on, and the next kubelet must know them and start others.
func (c *cluster) restartKubelet() (string, error) {
	before, err := c.pods()
	if err != nil {
		return "", err
	}
	var netns, addrs []string
	err = c.ofEachNode(func(n *node, p *kubePod) error {
		path, err := n.attached(p.addrs()[0])
		netns, addrs = append(netns, path), append(addrs, p.addrs()[0])
		return err
	})
	if err != nil {
		return "", err
	}
	longest, err := whileTalking(netns[0], netns[1], addrs[1], func() error {
		if err := c.nodes[0].daemons["kubelet"].kill(); err != nil {
			return err
		}
		if err := c.startKubelet(c.nodes[0]); err != nil {
			return err
		}
		return c.startPod("later", c.nodes[0])
	})
	if err != nil {
		return "", err
	}
	after, err := c.pods()
	if err != nil {
		return "", err
	}
	for _, p := range before {
		same := func(q kubePod) bool {
			return q.Metadata.UID == p.Metadata.UID && q.Status.ContainerStatuses[0].RestartCount == 0
		}
		if !slices.ContainsFunc(after, same) {
			return "", fmt.Errorf("%s does not run any more, or was restarted", p.Metadata.Name)
		}
	}
	return fmt.Sprintf("%d pods run on, a new one started; a connection waited for %.1f ms at most", len(before), milliseconds(longest)), nil
}

// breakPeers has a node's list of peers be no JSON for a while. STATUS says so, which makes the node not ready; pods go on.
func (c *cluster) breakPeers() (string, error) {
	n := c.nodes[0]
	if err := replaceFile(n.varLib+peersFile, []byte("[{")); err != nil {
		return "", err
	}
	if err := c.wait("wait", "--for", "condition=Ready=false", "node/"+n.name); err != nil {
		return "", err
	}
	said, err := c.kubectl(nil, "get", "node", n.name, "--output", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`)
	if err != nil {
		return "", err
	}
	if !strings.Contains(said, "peers") {
		return "", fmt.Errorf("node %s says %q", n.name, said)
	}
	if _, err := c.reachAll(); err != nil {
		return "", err
	}
	return said, errors.Join(c.writePeers(n), c.wait("wait", "--for", "condition=Ready", "node/"+n.name))
}

// storm starts many pods, and deletes all of them at once, which has to leave each node as it was.
func (c *cluster) storm() (string, error) {
	var before [][]string
	for _, n := range c.nodes {
		has, err := n.traces()
		if err != nil {
			return "", err
		}
		before = append(before, has)
	}
	if err := c.rollOut(workload("Deployment", "storm", 40), "deployment/storm"); err != nil {
		return "", err
	}
	told, err := c.spread("app=storm")
	if err != nil {
		return "", err
	}
	if err := c.wait("delete", "deployment", "storm", "--cascade=foreground"); err != nil {
		return "", err
	}
	for i, n := range c.nodes {
		if err := n.waitTraces(before[i]); err != nil {
			return "", err
		}
	}
	return told + "; deleted, nothing is left of them", nil
}

// reset has node b lose all but its disk. Its kubelet starts all of its pods anew, and the addresses that they had must be given back.
func (c *cluster) reset() (string, error) {
	n := c.nodes[1]
	if err := errors.Join(n.crash(), n.boot(), c.plug(n), c.startNode(n)); err != nil {
		return "", err
	}
	restarted := 0
	err := waitFor(patience, "the pods of node "+n.name+" have been started anew", func() (bool, error) {
		pods, err := c.pods("--field-selector", "spec.nodeName="+n.name)
		restarted = len(pods)
		for _, p := range pods {
			if s := p.Status.ContainerStatuses; len(s) == 0 || !s[0].Ready || s[0].RestartCount == 0 {
				return false, fmt.Errorf("%s is not ready", p.Metadata.Name)
			}
		}
		return err == nil, err
	})
	return fmt.Sprintf("%d pods were started anew; the old ones' addresses are free", restarted), errors.Join(err, c.onlyPods())
}

// deleteAll deletes all that was made.
func (c *cluster) deleteAll() (string, error) {
	if err := errors.Join(c.wait("delete", "service", "web"), c.wait("delete", "deployments,daemonsets,pods", "--all")); err != nil {
		return "", err
	}
	for _, n := range c.nodes {
		if err := n.waitTraces(nil); err != nil {
			return "", err
		}
	}
	return "no link, rule, packet filter entry, record, address, cached result, namespace", nil
}
