package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// cri calls containerd as a kubelet does.
type cri struct {
	*host
	attempts int // to run sandboxes
}

const socket = "/run/containerd/containerd.sock"

// object is a message of the interface.
type object map[string]any

// call calls a method and decodes the answer.
func (c *cri) call(method string, request object, answer any) error {
	raw, err := json.Marshal(request)
	if err != nil {
		return err
	}
	return c.on(func() error {
		cmd := exec.Command(c.program("cri"), socket, method)
		cmd.Stdin = bytes.NewReader(raw)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", method, err, strings.TrimSpace(stderr.String()))
		}
		if answer == nil {
			return nil
		}
		return json.Unmarshal(out, answer)
	})
}

// sandbox is a pod with one container.
type sandbox struct {
	id, container string
	netns         string
	addrs         []string
}

// sandbox makes a sandbox of a name. More is for its configuration.
func (c *cri) sandbox(name string, more object) (*sandbox, error) {
	c.attempts++
	config := object{
		"metadata": object{"name": name, "uid": name, "namespace": "default", "attempt": c.attempts},
		"linux":    object{"cgroupParent": "/" + c.cgroup},
	}
	for key, value := range more {
		config[key] = value
	}
	var made struct{ PodSandboxID string }
	if err := c.call("RunPodSandbox", object{"config": config}, &made); err != nil {
		return nil, err
	}
	s := &sandbox{id: made.PodSandboxID}
	if err := c.look(s); err != nil {
		return nil, err
	}
	var container struct{ ContainerID string }
	err := c.call("CreateContainer", object{
		"podSandboxId": s.id, "sandboxConfig": config,
		"config": object{
			"metadata": object{"name": "guest", "attempt": c.attempts}, "image": object{"image": image}, "args": []string{"serve", fmt.Sprint(podPort)},
		},
	}, &container)
	if err != nil {
		return nil, err
	}
	s.container = container.ContainerID
	if err := c.call("StartContainer", object{"containerId": s.container}, nil); err != nil {
		return nil, err
	}
	return s, listening(s.addrs[0])
}

// look reads where a sandbox is in the network.
func (c *cri) look(s *sandbox) error {
	type ip struct{ IP string }
	var answer struct {
		Status struct {
			Network struct {
				IP            string
				AdditionalIps []ip
			}
		}
		Info struct{ Info string }
	}
	if err := c.call("PodSandboxStatus", object{"podSandboxId": s.id, "verbose": true}, &answer); err != nil {
		return err
	}
	s.addrs = []string{answer.Status.Network.IP}
	for _, more := range answer.Status.Network.AdditionalIps {
		s.addrs = append(s.addrs, more.IP)
	}
	var info struct {
		RuntimeSpec struct {
			Linux struct {
				Namespaces []struct{ Type, Path string }
			}
		}
	}
	if err := json.Unmarshal([]byte(answer.Info.Info), &info); err != nil {
		return err
	}
	for _, ns := range info.RuntimeSpec.Linux.Namespaces {
		if ns.Type == "network" {
			s.netns = ns.Path
		}
	}
	if len(s.addrs) != 2 || s.netns == "" {
		return fmt.Errorf("the sandbox has the addresses %q and the namespace %q", s.addrs, s.netns)
	}
	return nil
}

// ask has a container connect, which has to be seen as an address: anyone's, if it is empty.
func (c *cri) ask(from *sandbox, to, as string) (string, error) {
	var answer struct {
		Stdout, Stderr []byte
		ExitCode       int
	}
	err := c.call("ExecSync", object{"containerId": from.container, "cmd": []string{"/guest", "ask", to}, "timeout": 10}, &answer)
	if err != nil {
		return "", err
	}
	seen := strings.TrimSpace(string(answer.Stdout))
	if answer.ExitCode != 0 || as != "" && seen != as {
		return "", fmt.Errorf("%s saw %q, and not %q: %s", to, seen, as, answer.Stderr)
	}
	return fmt.Sprintf("%s answered; it saw %s", to, seen), nil
}

// remove stops sandboxes, twice as a kubelet does at times, and removes them.
func (c *cri) remove(all ...*sandbox) error {
	for _, s := range all {
		for _, method := range []string{"StopPodSandbox", "StopPodSandbox", "RemovePodSandbox"} {
			if err := c.call(method, object{"podSandboxId": s.id}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// states are those of all sandboxes: ready or not.
func (c *cri) states() (ready, notReady int, err error) {
	var answer struct{ Items []struct{ State string } }
	err = c.call("ListPodSandbox", object{}, &answer)
	for _, s := range answer.Items {
		if s.State == "SANDBOX_NOTREADY" {
			notReady++
		} else {
			ready++
		}
	}
	return ready, notReady, err
}

// networkReady asks the runtime whether pods can be attached.
func (c *cri) networkReady() error {
	var answer struct {
		Status struct {
			Conditions []struct {
				Type    string
				Status  bool
				Message string
			}
		}
	}
	if err := c.call("Status", object{}, &answer); err != nil {
		return err
	}
	for _, condition := range answer.Status.Conditions {
		if condition.Type == "NetworkReady" {
			if !condition.Status {
				return errors.New(condition.Message)
			}
			return nil
		}
	}
	return errors.New("no condition NetworkReady")
}
