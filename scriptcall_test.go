package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cnibox/cnibox/roles"
	"github.com/cnibox/cnibox/roles/roletest"
)

// pluginCall is one call of a plugin, as the command cni of a script describes it.
type pluginCall struct {
	path string
	env  map[string]string
	conf []byte
}

// answer is what a plugin gave back.
type answer struct {
	stdout, stderr []byte
	status         int
}

// newPluginCall reads the arguments of cni: VERB ROLE POD IFNAME CONF [KEY=VALUE ...].
func newPluginCall(ts *testscript.TestScript, args []string) *pluginCall {
	if len(args) < 5 {
		ts.Fatalf("usage: cni VERB ROLE POD IFNAME CONF [KEY=VALUE] [KEY-] [prev=FILE] [valid=POD/IFNAME,...] ...; - stands for none")
	}
	h := hostOf(ts)
	verb, role, pod, ifName, conf := args[0], args[1], args[2], args[3], args[4]
	h.calls = append(h.calls, verb+" "+role)
	c := &pluginCall{path: h.farm + "/" + role, env: map[string]string{"CNI_COMMAND": verb, "CNI_PATH": h.farm}}
	if pod != "-" {
		c.env["CNI_CONTAINERID"], c.env["CNI_IFNAME"] = pod, ifName
		if ns := h.pods[pod]; ns != nil {
			c.env["CNI_NETNS"] = ns.Path
		}
	}
	if conf != "-" {
		c.conf = []byte(expandFile(ts, conf))
	}
	for _, arg := range args[5:] {
		key, value, isSet := strings.Cut(arg, "=")
		switch {
		case key == "prev":
			c.conf = withKey(ts, c.conf, "prevResult", json.RawMessage(expandFile(ts, value)))
		case key == "valid":
			c.conf = withKey(ts, c.conf, "cni.dev/valid-attachments", attachments(value))
		case isSet:
			c.env[key] = value
		default:
			delete(c.env, strings.TrimSuffix(key, "-"))
		}
	}
	return c
}

// expandFile reads a file of the script, with its variables replaced.
func expandFile(ts *testscript.TestScript, name string) string {
	return os.Expand(ts.ReadFile(name), ts.Getenv)
}

// withKey is what a runtime makes of a configuration for a call.
func withKey(ts *testscript.TestScript, conf []byte, key string, value any) []byte {
	keys := map[string]any{}
	ts.Check(json.Unmarshal(conf, &keys))
	keys[key] = value
	out, err := json.Marshal(keys)
	ts.Check(err)
	return out
}

// attachments reads a list such as "pod1/eth0,pod2/eth0".
func attachments(list string) []roles.Attachment {
	valid := []roles.Attachment{}
	for item := range strings.SplitSeq(list, ",") {
		if id, ifName, ok := strings.Cut(item, "/"); ok {
			valid = append(valid, roles.Attachment{ContainerID: id, IfName: ifName})
		}
	}
	return valid
}

// run makes the call on the host. The plugin has the variables of the call and no other, PATH included; wrapper is a program, with its
// arguments, that starts it.
func (c *pluginCall) run(h *scriptHost, wrapper ...string) (*answer, error) {
	argv := append(wrapper, c.path)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = []string{}
	for _, key := range slices.Sorted(maps.Keys(c.env)) {
		cmd.Env = append(cmd.Env, key+"="+c.env[key])
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.conf), &stdout, &stderr
	err := h.ns.Do(cmd.Run)
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() < 0 {
		return nil, fmt.Errorf("%s %s: %w: %s", c.env["CNI_COMMAND"], c.path, err, &stderr)
	}
	return &answer{stdout.Bytes(), stderr.Bytes(), cmd.ProcessState.ExitCode()}, nil
}

// pluginError is how a plugin says that it failed (CNI spec, section 5, "Error").
type pluginError struct {
	CNIVersion string `json:"cniVersion"`
	Code       uint   `json:"code"`
	Msg        string `json:"msg"`
	Details    string `json:"details"`
}

// version is that of the configuration, which is the result's too.
func (c *pluginCall) version() string {
	var conf struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(c.conf, &conf); err != nil || conf.CNIVersion == "" {
		return roles.Versions()[0]
	}
	return conf.CNIVersion
}

// wrong tells what every call must keep to, whatever it is about: the exit status, what stands on stdout (CNI spec, section 2), and the form of
// a result.
func (a *answer) wrong(c *pluginCall, fails bool) error {
	verb := c.env["CNI_COMMAND"]
	if len(a.stderr) > 0 {
		return fmt.Errorf("the plugin logs: %s", a.stderr)
	}
	if fails {
		var e pluginError
		d := json.NewDecoder(bytes.NewReader(a.stdout))
		d.DisallowUnknownFields()
		err := d.Decode(&e)
		if a.status != 1 || err != nil || d.More() || e.CNIVersion == "" || e.Code == 0 || e.Msg == "" || strings.Contains(e.Msg, "\n") {
			return fmt.Errorf("exit status %d with %q (%w): want 1 and an error", a.status, a.stdout, err)
		}
		return nil
	}
	if a.status != 0 {
		return fmt.Errorf("exit status %d with %s", a.status, a.stdout)
	}
	answers := verb == "ADD" || verb == "VERSION"
	if !answers && len(a.stdout) > 0 {
		return fmt.Errorf("%s answers with %s, where there is nothing to say", verb, a.stdout)
	}
	if answers && !json.Valid(a.stdout) {
		return fmt.Errorf("%s answers with %q, which is not JSON", verb, a.stdout)
	}
	if verb == "ADD" {
		_, err := roletest.ReadResult(c.version(), a.stdout)
		return err
	}
	return nil
}
