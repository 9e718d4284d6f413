package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// workload is a Deployment or a DaemonSet of pods that serve. They are ready when a kubelet reaches them.
func workload(kind, name string, replicas int, ports ...object) object {
	labels := object{"app": name}
	spec := object{
		"selector": object{"matchLabels": labels},
		"template": object{"metadata": object{"labels": labels}, "spec": object{
			"automountServiceAccountToken": false,
			"containers":                   []object{guest(ports...)},
			"topologySpreadConstraints": []object{{
				"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": object{"matchLabels": labels},
			}},
		}},
	}
	if replicas > 0 {
		spec["replicas"] = replicas
	}
	return object{"apiVersion": "apps/v1", "kind": kind, "metadata": object{"name": name}, "spec": spec}
}

func guest(ports ...object) object {
	return object{
		"name": "guest", "image": image, "imagePullPolicy": "Never", "args": []string{"serve", strconv.Itoa(podPort)}, "ports": ports,
		"readinessProbe": object{"tcpSocket": object{"port": podPort}, "periodSeconds": 2},
	}
}

// rollOut makes a workload and waits until its pods are ready.
func (c *cluster) rollOut(w object, resource string) error {
	if _, err := c.kubectl(w, "apply", "--filename", "-"); err != nil {
		return err
	}
	return c.wait("rollout", "status", resource)
}

// kubePod is what Kubernetes tells of a pod.
type kubePod struct {
	Metadata struct{ Name, UID string }
	Spec     struct{ NodeName string }
	Status   struct {
		PodIPs            []struct{ IP string }
		ContainerStatuses []struct {
			Ready        bool
			RestartCount int
		}
	}
}

func (p *kubePod) addrs() (out []string) {
	for _, ip := range p.Status.PodIPs {
		out = append(out, ip.IP)
	}
	return out
}

// pods are those of a workload, or all.
func (c *cluster) pods(selector ...string) ([]kubePod, error) {
	var list struct{ Items []kubePod }
	err := c.get(&list, append([]string{"get", "pods"}, selector...)...)
	return list.Items, err
}

// meeting is what a pod saw that asked a server.
type meeting struct{ seen, at string }

// meet has a pod ask servers, one after the other.
func (c *cluster) meet(pod *kubePod, servers ...string) ([]meeting, error) {
	out, err := c.kubectl(nil, append([]string{"exec", pod.Metadata.Name, "--", "/guest", "meet"}, servers...)...)
	if err != nil {
		return nil, err
	}
	var all []meeting
	for line := range strings.Lines(out) {
		seen, at, _ := strings.Cut(strings.TrimSpace(line), " ")
		all = append(all, meeting{seen, at})
	}
	if len(all) != len(servers) {
		return nil, fmt.Errorf("%s asked %d servers, and says %q", pod.Metadata.Name, len(servers), out)
	}
	return all, nil
}

// startPod starts a pod on a node, and waits until it is ready.
func (c *cluster) startPod(name string, n *node) error {
	pod := object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": name}, "spec": object{
		"nodeName": n.name, "automountServiceAccountToken": false, "containers": []object{guest()},
	}}
	if _, err := c.kubectl(pod, "apply", "--filename", "-"); err != nil {
		return err
	}
	return c.wait("wait", "--for", "condition=Ready", "pod/"+name)
}

// spread tells how many pods each node has, which must be some, and each with an address of both families.
func (c *cluster) spread(selector string) (string, error) {
	pods, err := c.pods("--selector", selector)
	if err != nil {
		return "", err
	}
	count := map[string]int{}
	for _, p := range pods {
		if len(p.addrs()) != 2 {
			return "", fmt.Errorf("%s has the addresses %q", p.Metadata.Name, p.addrs())
		}
		count[p.Spec.NodeName]++
	}
	var told []string
	for _, n := range c.nodes {
		if count[n.name] == 0 {
			return "", fmt.Errorf("node %s has no pod of %s", n.name, selector)
		}
		told = append(told, fmt.Sprintf("%d on %s", count[n.name], n.name))
	}
	return strings.Join(told, ", "), nil
}

// ofEachNode does something for one pod of web on each node.
func (c *cluster) ofEachNode(fn func(*node, *kubePod) error) error {
	pods, err := c.pods("--selector", "app=web")
	if err != nil {
		return err
	}
	for _, n := range c.nodes {
		i := slices.IndexFunc(pods, func(p kubePod) bool { return p.Spec.NodeName == n.name })
		if i < 0 {
			return fmt.Errorf("node %s has no pod", n.name)
		}
		if err := fn(n, &pods[i]); err != nil {
			return err
		}
	}
	return nil
}

// onlyPods waits until each node holds the addresses of its pods, and no others.
func (c *cluster) onlyPods() error {
	pods, err := c.pods()
	if err != nil {
		return err
	}
	for _, n := range c.nodes {
		var addrs []string
		for _, p := range pods {
			if p.Spec.NodeName == n.name {
				addrs = append(addrs, p.addrs()...)
			}
		}
		err := waitFor(patience, "node "+n.name+" has its pods' addresses alone", func() (bool, error) {
			err := n.wantReserved("podnet", slices.Clone(addrs)...)
			return err == nil, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
