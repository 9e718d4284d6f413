package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cnibox/cnibox/scripts/machine"
)

// suite is the tests of one package.
type suite struct {
	pkg    string // import path
	dir    string // within the module
	binary string
	args   []string
}

// needsNamespaces is what a package's tests import if they are about the kernel; the others would find nothing new in a machine.
const needsNamespaces = "/netutil/nstest"

// excluded are tests that are not about the kernel, by the package's folder, each with the reason why it cannot run in a machine.
func excluded() map[string][]string {
	return map[string][]string{
		".": {
			"^TestDependencies$",                 // needs the go command
			"^TestExecutable$/version_from_git",  // needs git, and the repository
			"^Test(FaultIn|KillIn|ForeignHand)",  // every system call goes wrong: the same with any kernel, and half an hour here
			"^TestMigration",                     // needs the go command, to build the reference plugins
			"^TestSeccomp",                       // which calls a program makes is its own business
			"^Test(Hostile|LongLists|Secrets)",   // thousands of calls, about what is read; the same with any kernel
			"^Test(Keys|Limits|Schema|Validate)", // about configurations; the same with any kernel
			"^TestStorm",                         // 20 at once keep an emulated machine from all else; the same with any kernel
		},
		"roles/hostdevice": {
			"^TestWithReference$", // needs the go command
		},
		"ipam/dhcp": {
			"^TestWithReference$", // needs the go command
			// 200 at once take an emulated machine minutes, and a busy one longer than the daemon waits; it does the same with any kernel.
			"^TestManyLeases",
		},
		"ipam/hostlocal": {
			"^TestWithReference$", // needs the go command; it is about files only
		},
		"roles/vxlan": {
			"^TestThePathGetsNarrower$", // large transfers take an emulated machine minutes
		},
		"roles/firewall": {
			"Firewalld", // firewalld is written in Python
		},
		"scripts/bench/floor": {"."}, // needs the go command; the floor program is only measured
	}
}

// buildSuites compiles the tests of the packages that need it.
func buildSuites(ctx context.Context, o *options, work string) ([]suite, error) {
	patterns := o.packages
	if len(patterns) == 0 {
		patterns = []string{"./..."}
	}
	const format = `{{.ImportPath}} {{.Dir}} {{join .TestImports ","}},{{join .XTestImports ","}},{{join .Imports ","}}`
	out, err := output(ctx, "go", append([]string{"list", "-f", format}, patterns...)...)
	if err != nil {
		return nil, err
	}
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	only, err := o.selection()
	if err != nil {
		return nil, err
	}
	var suites []suite
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		if !strings.Contains(fields[2], needsNamespaces) && !strings.Contains(fields[2], "/roles/roletest") {
			continue
		}
		s := suite{pkg: fields[0]}
		if s.dir, err = filepath.Rel(root, fields[1]); err != nil {
			return nil, err
		}
		parts := s.parts(only)
		if len(parts) == 0 {
			continue
		}
		s.binary = filepath.Join(work, strings.ReplaceAll(s.dir, "/", "-")+".test")
		if _, err := output(ctx, "go", "test", "-c", "-o", s.binary, s.pkg); err != nil {
			return nil, err
		}
		if _, err := os.Stat(s.binary); err != nil { // a package without test files makes none
			continue
		}
		for _, run := range parts {
			part := s
			part.args = s.arguments(o, run)
			suites = append(suites, part)
		}
	}
	if len(suites) == 0 {
		return nil, fmt.Errorf("no package of %s has tests that need a network namespace", strings.Join(patterns, " "))
	}
	return suites, nil
}

// arguments are those of the test binary. Run is a pattern of tests.
func (s *suite) arguments(o *options, run string) []string {
	args := []string{"-test.v=test2json", "-test.count=1", "-test.timeout=" + o.limit.String()}
	if run != "" {
		args = append(args, "-test.run="+run)
	}
	if skip := excluded()[s.dir]; len(skip) > 0 {
		args = append(args, "-test.skip="+strings.Join(skip, "|"))
	}
	return args
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	return machine.Output(ctx, name, args...)
}
