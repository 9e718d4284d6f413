package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// scriptCommands are the commands of scripts beside testscript's own; testdata/scripts/README.md tells what they do.
func scriptCommands() map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		"pod":      cmdPod,
		"gone":     cmdGone,
		"host":     cmdHost,
		"in":       cmdIn,
		"cni":      cmdCNI,
		"together": cmdTogether,
		"execs":    cmdExecs,
		"refused":  cmdRefused,
		"json":     cmdJSON,
		"setenv":   cmdSetenv,
		"cmpjson":  cmdCmpJSON,
		"reserved": cmdReserved,
		"leaks":    cmdLeaks,
		"dhcpd":    cmdDHCPD,
		"leases":   cmdLeases,
		"daemon":   cmdDaemon,
	}
}

func hostOf(ts *testscript.TestScript) *scriptHost { return ts.Value(hostKey{}).(*scriptHost) }

func usage(ts *testscript.TestScript, ok bool, text string) {
	if !ok {
		ts.Fatalf("usage: %s", text)
	}
}

// pod NAME...
func cmdPod(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 0, "pod NAME...")
	h := hostOf(ts)
	for _, name := range args {
		h.pods[name] = nstest.New(h.t, name)
		h.pods[name].Run("ip", "link", "set", "lo", "down") // as a runtime makes it
		ts.Setenv(name, h.pods[name].Path)
	}
}

// gone POD...
func cmdGone(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 0, "gone POD...")
	for _, name := range args {
		podOf(ts, name).Remove()
	}
}

func podOf(ts *testscript.TestScript, name string) *nstest.NS {
	pod := hostOf(ts).pods[name]
	if pod == nil {
		ts.Fatalf("no pod %s", name)
	}
	return pod
}

// host PROGRAM [ARG...]
func cmdHost(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 0, "[!] host PROGRAM [ARG...]")
	runIn(ts, hostOf(ts).ns, neg, args)
}

// in POD PROGRAM [ARG...]
func cmdIn(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) > 1, "[!] in POD PROGRAM [ARG...]")
	runIn(ts, podOf(ts, args[0]), neg, args[1:])
}

func runIn(ts *testscript.TestScript, ns *nstest.NS, neg bool, args []string) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	if err := ns.Do(cmd.Run); (err != nil) != neg {
		ts.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
}

// cni VERB ROLE POD IFNAME CONF [KEY=VALUE...] [KEY-...] [prev=FILE]
func cmdCNI(ts *testscript.TestScript, neg bool, args []string) {
	call := newPluginCall(ts, args)
	a, err := call.run(hostOf(ts))
	ts.Check(err)
	_, _ = ts.Stdout().Write(a.stdout)
	ts.Check(a.wrong(call, neg))
}

// together COUNT cni ...
func cmdTogether(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 2 && args[1] == "cni", "together COUNT cni ...")
	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	call := newPluginCall(ts, args[2:])
	errs := make([]error, count)
	var all sync.WaitGroup
	for i := range count {
		all.Go(func() {
			a, err := call.run(hostOf(ts))
			if err == nil {
				err = a.wrong(call, false)
			}
			errs[i] = err
		})
	}
	all.Wait()
	for _, err := range errs {
		ts.Check(err)
	}
}

// execs COUNT cni ...
func cmdExecs(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) > 2 && args[1] == "cni", "execs COUNT cni ...")
	strace, err := exec.LookPath("strace")
	ts.Check(err)
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	log := ts.MkAbs(".execs")
	call := newPluginCall(ts, args[2:])
	a, err := call.run(hostOf(ts), strace, "-f", "-qq", "-e", "trace=execve", "-e", "signal=none", "-o", log)
	ts.Check(err)
	_, _ = ts.Stdout().Write(a.stdout)
	ts.Check(a.wrong(call, false))
	if calls := ts.ReadFile(log); strings.Count(calls, "execve(") != want {
		ts.Fatalf("want %d programs to be started:\n%s", want, calls)
	}
}

// refused CODE REGEXP
func cmdRefused(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "refused CODE REGEXP")
	var e pluginError
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &e))
	if strconv.Itoa(int(e.Code)) != args[0] {
		ts.Fatalf("code %d, not %s: %s", e.Code, args[0], e.Msg)
	}
	if !regexp.MustCompile(args[1]).MatchString(e.Msg) {
		ts.Fatalf("the message is %q", e.Msg)
	}
	if want := ts.Getenv("VERSION"); e.CNIVersion != want {
		ts.Fatalf("the error is of version %s, not %s", e.CNIVersion, want)
	}
}

// json PATH [VALUE]
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, len(args) == 2 && !neg || len(args) == 1, "json PATH VALUE, or [!] json PATH")
	value, found := lookUp(answered(ts), args[0])
	if found == neg {
		ts.Fatalf("%s: found is %t: %v", args[0], found, value)
	}
	if len(args) == 2 && fmt.Sprint(value) != args[1] {
		ts.Fatalf("%s is %v, not %s", args[0], value, args[1])
	}
}

// setenv NAME PATH
func cmdSetenv(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 2, "setenv NAME PATH")
	value, found := lookUp(answered(ts), args[1])
	if !found {
		ts.Fatalf("no %s", args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(value))
}

// answered is the JSON document that the last plugin called has answered.
func answered(ts *testscript.TestScript) any {
	var document any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &document))
	return document
}

// cmpjson FILE
func cmdCmpJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 1, "cmpjson FILE")
	var want any
	ts.Check(json.Unmarshal([]byte(expandFile(ts, args[0])), &want))
	for _, difference := range differences("answer", answered(ts), want) {
		ts.Logf("%s", difference)
		defer ts.Fatalf("the answer is not that of %s", args[0])
	}
}

// reserved [ADDRESS...]
func cmdReserved(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg, "reserved [ADDRESS...]")
	have, err := reservations(hostOf(ts))
	ts.Check(err)
	if got, want := strings.Join(have, " "), strings.Join(args, " "); got != want {
		ts.Fatalf("reserved are %q, not %q", got, want)
	}
}

// reservations are the names of host-local's address files in all networks, sorted.
func reservations(h *scriptHost) ([]string, error) {
	names := []string{}
	for _, dir := range []string{h.data, filepath.Join(h.ns.VarLib, "cni", "networks")} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case os.IsNotExist(err):
				return nil
			case err != nil:
				return err
			case d.IsDir() && d.Name() == ".cnibox": // the index
				return filepath.SkipDir
			case !d.IsDir() && d.Name() != "lock" && !strings.HasPrefix(d.Name(), "last_reserved_ip."):
				names = append(names, d.Name())
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// leaks [LINK...]
func cmdLeaks(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg, "leaks [LINK...]")
	h := hostOf(ts)
	leaks, err := h.ns.Leaks(args...)
	ts.Check(err)
	reserved, err := reservations(h)
	ts.Check(err)
	for _, name := range reserved {
		leaks = append(leaks, "address "+name)
	}
	if len(leaks) > 0 {
		ts.Fatalf("left behind:\n%s", strings.Join(leaks, "\n"))
	}
}
