package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cnibox/cnibox/command/explain"
	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/roles/roletest"
)

// explained is a node with pods of several networks, and a world outside, of which every connection can be made and be explained.
type explained struct {
	*roletest.Node
	t      *testing.T
	places map[string]*nstest.NS // by the names that cases use
	pods   map[string]*roletest.Pod
}

func newExplained(t *testing.T) *explained {
	t.Helper()
	n := roletest.NewNode(t, roleTable())
	n.Host.VarLib = t.TempDir()
	e := &explained{Node: n, t: t, pods: map[string]*roletest.Pod{}}
	e.places = map[string]*nstest.NS{"host": n.Host, "outside": n.Outside()}
	for _, place := range e.places {
		n.Server(place, 80)
	}
	for _, key := range []string{"all", "default"} { // as most distributions have it
		n.Host.Run("sysctl", "-qw", "net.ipv4.conf."+key+".rp_filter=2")
	}
	return e
}

// attach makes a pod.
func (e *explained) attach(role, name, keys string, subnet int) *roletest.Pod {
	e.t.Helper()
	conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net%d", "type": %q, "ipMasq": true, %s, "ipam": {"type": "host-local",
		"ranges": [[{"subnet": "10.%[1]d.0.0/24"}], [{"subnet": "fd%02[1]d::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}`,
		subnet, role, keys)
	pod := e.Add(role, name, conf)
	e.Server(pod.NS, 80)
	e.pods[name], e.places[name] = pod, pod.NS
	return pod
}

// ports leads ports of the host to a pod's port 80.
func (e *explained) ports(name string, number int) {
	e.t.Helper()
	e.chained("portmap", name, fmt.Sprintf(`"runtimeConfig": {"portMappings": [{"hostPort": %d, "containerPort": 80, "protocol": "tcp"},
		{"hostPort": %[1]d, "containerPort": 80, "protocol": "udp"}]}`, number))
}

// chained calls a plugin that goes behind the one that has attached the pod.
func (e *explained) chained(role, name, keys string) {
	e.t.Helper()
	conf := fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "chained", "type": %q, %s, "prevResult": %s}`, role, keys, e.pods[name].Result())
	e.Must(roletest.Call{Verb: "ADD", Role: role, Pod: e.pods[name], Conf: conf})
}

// way is a case: who connects to where, and what is done on the way before.
type way struct {
	name     string
	from, to string // of to the addresses stand for themselves; "b" stands for the pod's IPv4 address, "b6" for the other
	proto    string // tcp if empty
	do, undo string // commands on the host; "IN pod:" in front has them run there
	want     bool   // whether it works
	says     string // a part of what stops it
}

// try has a packet really sent, and waits for the answer.
func (e *explained) try(w way, to string) bool {
	e.t.Helper()
	var err error
	const patience = 400 * time.Millisecond
	from := e.places[w.from]
	if w.proto == "icmp" {
		_, err = from.Try("ping", "-c1", "-W1", to)
		return err == nil
	}
	network := w.proto
	if network == "" {
		network = "tcp"
	}
	tries := 1
	if w.want {
		tries = 3 // the first packet may find a neighbour or a carrier not ready
	}
	for range tries {
		err = from.Do(func() error {
			c, err := net.DialTimeout(network, to, patience)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(patience))
			if network == "udp" {
				_, _ = c.Write([]byte("?"))
			}
			_, err = c.Read(make([]byte, 100))
			return err
		})
		if err == nil {
			return true
		}
	}
	return false
}

// explain calls the command on the host.
func (e *explained) explain(args ...string) (r explain.Report, exit int) {
	e.t.Helper()
	var stdout, stderr bytes.Buffer
	err := e.Host.Do(func() error {
		cmd := exec.Command(builtExecutable(e.t), append([]string{"explain", "--output", "json"}, args...)...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		return cmd.Run()
	})
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		exit = failed.ExitCode()
	} else if err != nil {
		e.t.Fatal(err)
	}
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		e.t.Fatalf("explain %s: exit status %d, %v: %s%s", args, exit, err, stdout.String(), stderr.String())
	}
	return r, exit
}

// screen is what people see.
func (e *explained) screen(args ...string) string {
	out, _ := e.Host.Try(builtExecutable(e.t), append([]string{"explain"}, args...)...)
	return out
}

// address is what a case calls a destination.
func (e *explained) address(name string) string {
	pod := e.pods[strings.TrimSuffix(name, "6")]
	if pod == nil {
		return name
	}
	at := slices.IndexFunc(pod.Addrs, func(a netip.Addr) bool { return a.Is6() == strings.HasSuffix(name, "6") })
	return pod.Addrs[at].String()
}

// run runs commands of a case.
func (e *explained) run(commands string) {
	e.t.Helper()
	for line := range strings.SplitSeq(commands, "\n") {
		place, command := e.Host, strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(command, "IN "); ok {
			name, rest, _ := strings.Cut(rest, ": ")
			place, command = e.places[name], rest
		}
		if command != "" {
			place.Run("sh", "-ec", command)
		}
	}
}

// check compares what becomes of a packet with what is told of it.
func (e *explained) check(w way) {
	e.t.Helper()
	for name := range e.pods {
		w.do, w.undo = strings.ReplaceAll(w.do, "@"+name+" ", e.address(name)+" "), strings.ReplaceAll(w.undo, "@"+name+" ", e.address(name)+" ")
	}
	if strings.Contains(w.do, "PORTS") {
		ports := strings.Fields(e.Host.Run("sh", "-c", "ip -o link show master cni0 | cut -d: -f2 | cut -d@ -f1"))
		w.do = strings.ReplaceAll(w.do, "PORTS", strings.Join(ports, ", "))
	}
	e.run(w.do)
	defer e.run(w.undo)
	dest, port, hasPort := strings.Cut(w.to, " ")
	dest = e.address(dest)
	target := dest
	if hasPort {
		target = net.JoinHostPort(dest, port)
	}
	args := []string{w.from, target}
	if w.from == "outside" {
		args[0] = "192.0.2.100"
		if strings.Contains(dest, ":") {
			args[0] = "2001:db8::100"
		}
	}
	if w.proto != "" {
		args = append([]string{"--proto", w.proto}, args...)
	}
	before, _ := e.explain(args...)
	works := e.try(w, target)
	r, exit := e.explain(args...) // now that neighbours are known
	for i, told := range []explain.Report{before, r} {
		toldWorks := told.Verdict != explain.Dropped && (told.Answer == nil || told.Answer.Verdict != explain.Dropped) && (told.Then == nil || told.Then.Verdict != explain.Dropped)
		if toldWorks != works || works != w.want || told.Doubt != "" {
			e.t.Errorf("%s: works: %v, told (%d): %v, want %v\n%s", w.name, works, i, toldWorks, w.want, e.screen(args...))
		}
	}
	if w.from == "outside" {
		if _, exit := e.explain(append(args[:len(args)-2:len(args)-2], "outside:"+args[len(args)-2], target)...); w.says != "no route to 10.11." && (exit == 0) != w.want {
			e.t.Errorf("%s: of outside:%s it says exit status %d", w.name, args[len(args)-2], exit)
		}
	}
	if (exit == 0) != w.want {
		e.t.Errorf("%s: exit status %d", w.name, exit)
	}
	text := r.Text
	if r.Answer != nil {
		text += "; " + r.Answer.Text
	}
	if r.Then != nil {
		text += "; " + r.Then.Text
	}
	if !strings.Contains(text, w.says) {
		e.t.Errorf("%s: says %q, which has no %q", w.name, text, w.says)
	}
}
