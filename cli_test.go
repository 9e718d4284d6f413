package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	farm := filepath.Join(t.TempDir(), "bin")
	for _, tt := range []struct {
		args   string
		exit   int
		stdout string // part of it
		stderr string // part of it; empty: nothing at all
	}{
		{"", ui.ExitOK, "Commands:", ""},
		{"--help", ui.ExitOK, "install ", ""},
		{"install --help", ui.ExitOK, "--force", ""},
		{"version", ui.ExitOK, "CNI 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n", ""},
		{"--version", ui.ExitOK, version, ""},
		{"roles", ui.ExitOK, "bridge", ""},
		{"uninstall --dir " + farm, ui.ExitOK, "nothing of cnibox in " + farm, ""},
		{"nonsense", ui.ExitUsage, "", `unknown command or plugin "nonsense"`},
		{"--nonsense", ui.ExitUsage, "", "nonsense"},
		{"install --nonsense", ui.ExitUsage, "", "nonsense"},
		{"install /opt/cni/bin", ui.ExitUsage, "", "install takes no arguments: /opt/cni/bin"},
		{"install --dir " + farm + " --role bridge --role nonsense", ui.ExitUsage, "", "--role nonsense: no such plugin"},
		{"install --dir=", ui.ExitUsage, "", "--dir is empty"},
		{"validate", ui.ExitUsage, "", "validate needs a file or a folder"},
		{"validate --help", ui.ExitOK, "--max-pods NUMBER", ""},
		{"validate --max-pods many x.conf", ui.ExitUsage, "", "max-pods"},
		{"validate --plugin-dir /nonexistent x.conf", ui.ExitUsage, "", "--plugin-dir /nonexistent: there is no such folder"},
		{"validate --output xml x.conf", ui.ExitUsage, "", "--output xml: want text or json"},
		{"validate /nonexistent/x.conf", ui.ExitFailure, "", "/nonexistent/x.conf: no such file"},
		{"validate roles", ui.ExitFailure, "", "roles holds no .conf, .conflist or .json file"},
		{"schema", ui.ExitOK, `"title": "CNI network configuration list"`, ""},
		{"schema bridge", ui.ExitOK, "isDefaultGateway", ""},
		{"schema --help", ui.ExitOK, "JSON Schema", ""},
		{"schema nonsense", ui.ExitUsage, "", "schema nonsense: no such plugin; there are bandwidth, bridge,"},
		{"schema bridge ptp", ui.ExitUsage, "", "schema takes one plugin: bridge ptp"},
		{"roles --output xml", ui.ExitUsage, "", "--output xml: want text or json"},
		{"dhcp", ui.ExitOK, "daemon ", ""},
		{"dhcp daemon --help", ui.ExitOK, "--state-dir", ""},
		{"dhcp nonsense", ui.ExitUsage, "", "unknown command dhcp nonsense"},
		{"dhcp daemon nonsense", ui.ExitUsage, "", "daemon takes no arguments: nonsense"},
		{"dhcp daemon --nonsense", ui.ExitUsage, "", "nonsense"},
		{"dhcp daemon --timeout 0s", ui.ExitUsage, "", "--timeout 0s: want more than nothing"},
		{"dhcp daemon --socketpath /dev/null/dhcp.sock", ui.ExitFailure, "", "/dev/null"},
		{"inspect --help", ui.ExitOK, "--container", ""},
		{"inspect nonsense", ui.ExitUsage, "", "inspect takes no arguments: nonsense"},
		{"inspect --output xml", ui.ExitUsage, "", "--output xml: want text or json"},
		{"inspect --watch --interval 1ms", ui.ExitUsage, "", "--interval 1ms: want at least 100ms"},
		{"top --count -1", ui.ExitUsage, "", "--count -1: want 0 or more"},
		{"topology --format png", ui.ExitUsage, "", "--format png: want text, dot or svg"},
		{"ipam", ui.ExitOK, "release ", ""},
		{"ipam list --conf-dir " + farm + " --data-dir " + farm + " --lease-dir " + farm, ui.ExitOK, "no address is given out", ""},
		{"ipam release --network mynet", ui.ExitUsage, "", "want either addresses or --container"},
		{"ipam release nonsense", ui.ExitUsage, "", "no IP address"},
		{"ipam gc", ui.ExitUsage, "", "want --runtime or --from"},
		{"gc", ui.ExitUsage, "", "want --runtime or --from"},
		{"gc --runtime nonsense", ui.ExitUsage, "", "--runtime nonsense: not known; there are containerd"},
		{"gc --older-than -1s --from -", ui.ExitUsage, "", "less than nothing"},
		{"gc --from /dev/null", ui.ExitFailure, "", "the list is empty"},
		{"doctor --help", ui.ExitOK, "--fix", ""},
		{"doctor --only nonsense", ui.ExitUsage, "", "there are machine, kernel"},
		{"doctor --role nonsense", ui.ExitUsage, "", "no such plugin"},
		{"doctor nonsense", ui.ExitUsage, "", "doctor takes no arguments: nonsense"},
		{"gc nonsense", ui.ExitUsage, "", "gc takes no arguments: nonsense"},
		{"explain --help", ui.ExitOK, "SRC DST[:PORT]", ""},
		{"explain", ui.ExitUsage, "", "want SRC and DST[:PORT]"},
		{"explain host", ui.ExitUsage, "", "want SRC and DST[:PORT]"},
		{"explain host 10.0.0.1:x", ui.ExitUsage, "", `"x" is no port`},
		{"explain host 10.0.0.1:70000", ui.ExitUsage, "", `"70000" is no port`},
		{"explain --proto gre host 10.0.0.1", ui.ExitUsage, "", "--proto gre: want auto, tcp, udp, sctp or icmp"},
		{"explain --sport 70000 host 10.0.0.1:80", ui.ExitUsage, "", "--sport 70000: want a port"},
		{"explain --sport x host 10.0.0.1:80", ui.ExitUsage, "", "sport"},
		{"install --dir /dev/null", ui.ExitFailure, "", "/dev/null"},
		{"overlay", ui.ExitOK, "  show  ", ""},
		{"overlay nonsense", ui.ExitUsage, "", "unknown command overlay nonsense"},
		{"roles -o json", ui.ExitOK, `"name": "bridge"`, ""},
		{"fuse /dev/null nonsense", ui.ExitUsage, "", "fuse takes one file: /dev/null nonsense"},
		{"bridge --help", ui.ExitOK, "bridge - plugin (main): joins pods to a bridge by a veth pair\n", ""},
		{"help bridge", ui.ExitOK, "bridge - plugin (main): joins pods to a bridge by a veth pair\n", ""},
		{"help dhcp", ui.ExitOK, "cnibox dhcp - the daemon", ""},
		{"help install", ui.ExitOK, "--force", ""},
		{"completion tcsh", ui.ExitUsage, "", "completion tcsh: want one of bash, zsh, fish"},
		{"completion zsh", ui.ExitOK, "#compdef cnibox", ""},
		{"man", ui.ExitOK, `\fBcnibox\-install(8)\fR`, ""},
		{"man overlay", ui.ExitOK, "cnibox overlay show [OPTIONS]", ""},
		{"man nonsense", ui.ExitUsage, "", "man nonsense: there is no such command"},
	} {
		t.Run("cnibox "+tt.args, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			args := append([]string{"cnibox"}, strings.Fields(tt.args)...)
			if exit := runCommand(args, &stdout, &stderr); exit != tt.exit {
				t.Errorf("exit %d, want %d", exit, tt.exit)
			}
			if tt.exit != ui.ExitOK && stdout.Len() > 0 {
				t.Errorf("a failure printed to stdout: %s", &stdout)
			}
			if !strings.Contains(stdout.String(), tt.stdout) {
				t.Errorf("stdout %q, want %q in it", &stdout, tt.stdout)
			}
			if tt.stderr == "" && stderr.Len() > 0 || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("stderr %q, want %q in it", &stderr, tt.stderr)
			}
		})
	}
}

func TestVersionJSON(t *testing.T) {
	t.Parallel()
	var v versionInfo
	commandJSON(t, &v, "version", "--output", "json")
	if v.Version != version || !strings.HasPrefix(v.Go, "go1.") || !strings.HasPrefix(v.Platform, "linux/") ||
		strings.Join(v.CNIVersions, " ") != "0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0 1.1.0" {
		t.Errorf("got %+v", v)
	}
}

// The list tells of every role there is, and of no other.
func TestRolesJSON(t *testing.T) {
	t.Parallel()
	var infos []roleInfo
	commandJSON(t, &infos, "roles", "-o", "json")
	table := roleTable()
	var last string
	for _, info := range infos {
		if _, ok := table[info.Name]; !ok {
			t.Errorf("%s is told of, but is no role", info.Name)
		}
		delete(table, info.Name)
		if info.Kind != "main" && info.Kind != "meta" && info.Kind != "ipam" {
			t.Errorf("%s: kind %q", info.Name, info.Kind)
		}
		if info.Summary == "" || len(info.CNIVersions) == 0 {
			t.Errorf("%+v: something is empty", info)
		}
		if info.Name <= last {
			t.Errorf("%s stands behind %s", info.Name, last)
		}
		last = info.Name
	}
	for name := range table {
		t.Errorf("role %s is not told of", name)
	}
}

func commandJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if exit := runCommand(append([]string{"cnibox"}, args...), &stdout, &stderr); exit != ui.ExitOK {
		t.Fatalf("exit %d: %s", exit, &stderr)
	}
	if err := json.Unmarshal(stdout.Bytes(), into); err != nil {
		t.Fatalf("%v in %s", err, &stdout)
	}
}

// Every command says what it is, and gives an example of a call.
func TestCommandsHaveExamples(t *testing.T) {
	t.Parallel()
	var walk func(name string, commands []*cli.Command)
	walk = func(name string, commands []*cli.Command) {
		for _, c := range commands {
			name := name + " " + c.Name
			_, examples := ui.SplitDescription(c.Description)
			switch {
			case c.Usage == "" || strings.HasSuffix(c.Usage, "."):
				t.Errorf("%s: usage %q", name, c.Usage)
			case c.Subcommands != nil:
				walk(name, c.Subcommands)
			case len(examples) == 0:
				t.Errorf("%s: no example", name)
			case !slices.ContainsFunc(examples, func(e string) bool { return strings.Contains(e, name) }):
				t.Errorf("%s: no example of it: %q", name, examples)
			}
		}
	}
	walk(ui.Program, newApp(io.Discard, io.Discard).Commands)
}

// Bash itself completes, by the script that the program prints and with what the program then answers.
func TestBashCompletes(t *testing.T) {
	t.Parallel()
	const try = `PATH=$1:$PATH; source <(cnibox completion bash)
		shift; COMP_WORDS=(cnibox "$@"); COMP_CWORD=$#; _cnibox cnibox; echo "${COMPREPLY[*]}"`
	dir := filepath.Dir(builtExecutable(t))
	for _, tt := range []struct{ typed, want string }{
		{"ov", "overlay\n"},
		{"overlay show --o", "--output\n"},
		{"overlay show -o ", "text json\n"},
		{"completion ", "bash zsh fish\n"},
		{"schema vx", "vxlan\n"},
		{"install --dir ", "\n"},
	} {
		out, err := exec.Command("bash", append([]string{"-c", try, "bash", dir}, strings.Split(tt.typed, " ")...)...).CombinedOutput()
		if err != nil || string(out) != tt.want {
			t.Errorf("%s<tab>: got %q (%v), want %q", tt.typed, out, err, tt.want)
		}
	}
}
