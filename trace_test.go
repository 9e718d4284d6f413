package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// span is a line of a trace (docs/tracing.md).
type span struct {
	Name, Verb, Object        string
	Start                     time.Time
	DurationMicroseconds      int64
	TraceID, SpanID, ParentID string
}

func (s span) end() time.Time {
	return s.Start.Add(time.Duration(s.DurationMicroseconds) * time.Microsecond)
}

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceParent = "00f067aa0ba902b7"
)

// traced adds the pod by the fused list, with a foreign plugin at its end, and returns what the plugin printed to stderr.
func (h *fusedHost) traced(t *testing.T, file string) (stderr string) {
	t.Helper()
	conf, err := json.Marshal(map[string]any{
		"cniVersion": "1.1.0", "name": "net", "type": "cnibox",
		"plugins": []any{
			map[string]any{
				"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true,
				"ipam": map[string]any{"type": "host-local", "dataDir": h.data, "subnet": "10.10.0.0/24"},
			},
			map[string]any{"type": "other"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	cmd := exec.Cmd{
		Path: filepath.Join(h.cni.Path[len(h.cni.Path)-1], "cnibox"), Stdin: bytes.NewReader(conf), Stdout: &out, Stderr: &log,
		Env: []string{
			"CNI_COMMAND=ADD", "CNI_CONTAINERID=pod", "CNI_IFNAME=eth0", "CNI_NETNS=" + h.pod.Path, "PATH=" + os.Getenv("PATH"),
			"CNI_PATH=" + strings.Join(h.cni.Path, ":"), "CNIBOX_TRACE=" + file, "TRACEPARENT=00-" + traceID + "-" + traceParent + "-01",
		},
	}
	cmd.Args = []string{cmd.Path}
	if err := h.ns.Do(cmd.Run); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	return log.String()
}

// An ADD leaves a tree of spans, each within its parent's time, and foreign plugins are told of the span that they are started in.
func TestTrace(t *testing.T) {
	t.Parallel()
	dir := foreignPlugin(t)
	h := newFusedHost(t, foreignChain, dir)
	file := filepath.Join(t.TempDir(), "trace")
	if stderr := h.traced(t, file); stderr != "" {
		t.Errorf("it logs %s", stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spans := map[string]span{}
	var names []string
	for line := range strings.Lines(string(text)) {
		var s span
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		spans[s.SpanID] = s
		names = append(names, strings.Join(strings.Fields(s.Name+" "+s.Verb+" "+filepath.Base(s.Object)), " "))
	}
	for _, want := range []string{
		"call ADD cnibox", "role ADD cnibox", "role ADD bridge", "role ADD host-local", "program ADD other", "store net", "lock lock",
		"write 10.10.0.2", "write index", "lock net", "nft change .", "netlink route", "netlink netfilter",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("no span %s among %q", want, names)
		}
	}
	for _, s := range spans {
		parent, known := spans[s.ParentID]
		switch {
		case s.TraceID != traceID:
			t.Errorf("%+v is of another trace", s)
		case s.Name == "call":
			if s.ParentID != traceParent {
				t.Errorf("the call has the parent %s", s.ParentID)
			}
		case !known || s.Start.Before(parent.Start) || s.end().After(parent.end().Add(2*time.Microsecond)): // each time is cut to a microsecond
			t.Errorf("%+v is not within %+v", s, parent)
		case s.Name == "program":
			told, err := os.ReadFile(filepath.Join(dir, "parent"))
			if want := "00-" + traceID + "-" + s.SpanID + "-01\n"; string(told) != want {
				t.Errorf("the program was told of %q (%v), want %q", told, err, want)
			}
		}
	}
}

// A trace that cannot be written is told of, and hinders no call.
func TestTraceNowhere(t *testing.T) {
	t.Parallel()
	dir := foreignPlugin(t)
	h := newFusedHost(t, foreignChain, dir)
	if stderr := h.traced(t, "/nowhere/trace"); stderr != "cnibox cnibox: CNIBOX_TRACE: open /nowhere/trace: no such file or directory\n" {
		t.Errorf("it logs %q", stderr)
	}
}
