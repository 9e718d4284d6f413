package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"flag"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write anew what tests compare: pages, lists, findings")

const (
	maxExecutable = 8_000_000 // bytes
	// maxStartAllocs is the budget for what all packages allocate before main. Every plugin call pays it.
	maxStartAllocs = 320
)

func TestExecutable(t *testing.T) {
	t.Parallel()
	path := builtExecutable(t)

	t.Run("size", func(t *testing.T) {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes", info.Size())
		if info.Size() > maxExecutable {
			t.Errorf("the executable has %d bytes, more than %d", info.Size(), maxExecutable)
		}
	})
	t.Run("static", func(t *testing.T) {
		file, err := elf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		if file.Type != elf.ET_EXEC {
			t.Errorf("type %s: a position-independent executable starts slower", file.Type)
		}
		for _, p := range file.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("it has a %s segment, so it is not static", p.Type)
			}
		}
		for _, name := range []string{".symtab", ".debug_info", ".note.go.buildid"} {
			if file.Section(name) != nil {
				t.Errorf("it has a section %s, so it is not trimmed", name)
			}
		}
	})
	t.Run("no method is called by its name", func(t *testing.T) {
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(program, []byte("text/template.(*state).evalField")) { // it needs the methods of all types: a megabyte
			t.Error("something leads to text/template: cli.App.Run and cli.Show... of the command line's library do (command/ui/run.go)")
		}
	})
	t.Run("no paths of this machine", func(t *testing.T) {
		program, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		here, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(program, []byte(here+"/")) {
			t.Errorf("it holds the path %s", here)
		}
	})
	t.Run("version from git", func(t *testing.T) {
		want, err := exec.Command("git", "describe", "--tags", "--always", "--dirty").Output()
		if err != nil {
			t.Skip("not a git checkout")
		}
		got, err := exec.Command(path, "version").Output()
		if err != nil || !strings.HasPrefix(string(got), "cnibox "+string(want)) {
			t.Errorf("version prints %q (%v), git describes %q", got, err, want)
		}
	})
	t.Run("alone in a root", func(t *testing.T) { testAlone(t, path) })
	t.Run("allocations at start", func(t *testing.T) {
		if total := startAllocs(t, path); total > maxStartAllocs {
			t.Errorf("%d allocations before main, more than %d", total, maxStartAllocs)
		}
	})
}

// startAllocs sums what the packages allocate while they are initialised, by the Go runtime's own count.
func startAllocs(t *testing.T, path string) int {
	t.Helper()
	command := exec.Command(path, "version")
	command.Env = []string{"GODEBUG=inittrace=1"}
	var trace bytes.Buffer
	command.Stderr = &trace
	if err := command.Run(); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^init (\S+) .* (\d+) allocs$`)
	var packages, total int
	for s := bufio.NewScanner(&trace); s.Scan(); {
		if m := line.FindStringSubmatch(s.Text()); m != nil {
			n, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			packages++
			total += n
			if n > 10 {
				t.Logf("%4d allocations in %s", n, m[1])
			}
		}
	}
	if packages == 0 {
		t.Fatalf("the runtime's trace lists no package: %s", &trace)
	}
	t.Logf("%d allocations in all", total)
	return total
}

// startCritical are packages that must stay out of the executable, with what they import: each costs every plugin call
// start-up time.
var startCritical = []string{
	"net/http", "crypto", "html/template", "testing",
	"github.com/containernetworking/cni/pkg/invoke", // OpenTelemetry, and with it net/http and crypto/tls
	"github.com/containernetworking/cni/pkg/skel",   // roles.Run takes its place
	"github.com/containernetworking/plugins/pkg/ip", // knftables, regular expressions compiled at start
	"github.com/containernetworking/plugins/pkg/utils",
	"github.com/insomniacslk/dhcp/dhcpv6", // ipam/dhcp/dhcpv6 takes its place
	"github.com/cpuguy83/go-md2man",       // urfave/cli without the tag urfave_cli_no_docs
	"github.com/vishvananda/netlink",      // netutil/rawnl and netutil/rtnl take its place
	"go.opentelemetry.io",
	"sigs.k8s.io/knftables",
}

// TestDependencies guards the list of what the executable is made of: a change of it is a decision, seen in review.
// `go test . -run TestDependencies -update` writes it anew.
func TestDependencies(t *testing.T) {
	t.Parallel()
	command := exec.Command("go", "list", "-deps", "-tags", "urfave_cli_no_docs", ".")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	internal := regexp.MustCompile(`(^|/)(internal|vendor)(/|$)`)
	var got []string
	for _, pkg := range strings.Fields(string(out)) {
		if !strings.Contains(strings.Split(pkg, "/")[0], ".") && internal.MatchString(pkg) {
			continue // the standard library's own business
		}
		got = append(got, pkg)
		for _, banned := range startCritical {
			if pkg == banned || strings.HasPrefix(pkg, banned+"/") {
				t.Errorf("%s is in the executable; it costs start-up time", pkg)
			}
		}
	}
	slices.Sort(got)

	const path = "docs/dependencies.txt"
	if *update {
		if err := os.WriteFile(path, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	list, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(string(list))
	for _, pkg := range got {
		if !slices.Contains(want, pkg) {
			t.Errorf("%s is new in the executable", pkg)
		}
	}
	for _, pkg := range want {
		if !slices.Contains(got, pkg) {
			t.Errorf("%s is no longer in the executable", pkg)
		}
	}
	if t.Failed() {
		t.Logf("if that is wanted: go test . -run TestDependencies -update")
	}
}
