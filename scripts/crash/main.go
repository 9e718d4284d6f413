// Command crash runs the tests that have system calls of the plugins go wrong (fault_test.go, foreignhand_test.go), and prints for each role what was tried.
//
//	go run ./scripts/crash [-sample] [-run REGEXP]
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

func main() {
	sample := flag.Bool("sample", false, "try some calls of each sweep, as make test does, instead of all")
	run := flag.String("run", "^Test(FaultIn|KillIn|ForeignHandIn)", "tests to run")
	flag.Parse()
	if err := sweep(*sample, *run); err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
}

// sweep runs the tests, and prints the table even if some fail.
func sweep(sample bool, run string) error {
	cmd := exec.Command("go", "test", "-count=1", "-timeout=6h", "-json", "-run="+run, ".")
	cmd.Stderr = os.Stderr
	if !sample {
		cmd.Env = append(os.Environ(), "CNIBOX_TEST_FAULTS=all")
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	t := table{}
	err = errors.Join(t.read(stdout), cmd.Wait())
	return errors.Join(t.print(os.Stdout), err)
}

// table is the number of runs by scene, and by verb and kind of fault.
type table map[string]map[string]int

// columns are the verbs and kinds as the tests log them, in the order of the table.
func columns() []string {
	return []string{"ADD, kill", "DEL, kill", "ADD, refuse", "DEL, refuse", "ADD, lose", "DEL, lose", "ADD, meddle", "DEL, meddle"}
}

// logged is the line of a sweep.
var logged = regexp.MustCompile(`: ((?:ADD|DEL), \w+): \d+ of \d+ calls, (\d+) runs`)

// read takes in the tests' events. What a test that fails says is printed at once.
func (t table) read(r io.Reader) error {
	said := map[string]string{}
	for dec := json.NewDecoder(r); ; {
		var e struct{ Action, Test, Output string }
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		said[e.Test] += e.Output
		if m := logged.FindStringSubmatch(e.Output); m != nil {
			t.count(e.Test, m[1], m[2])
		}
		if e.Action == "fail" {
			fmt.Print(said[e.Test])
		}
	}
}

// count adds a sweep. Its scene is the test's name without the kind, which some have at their end.
func (t table) count(test, column, runs string) {
	_, scene, _ := strings.Cut(test, "/")
	_, kind, _ := strings.Cut(column, ", ")
	scene = strings.ReplaceAll(strings.TrimSuffix(scene, ",_"+kind), "_", " ")
	if t[scene] == nil {
		t[scene] = map[string]int{}
	}
	n, _ := strconv.Atoi(runs) // digits, see logged
	t[scene][column] += n
}

func (t table) print(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	total := map[string]int{}
	var scenes []string
	for scene, counts := range t {
		scenes = append(scenes, scene)
		for column, n := range counts {
			total[column] += n
		}
	}
	slices.Sort(scenes)
	t["in all"] = total
	_, _ = fmt.Fprintln(w, "\t"+strings.Join(columns(), "\t"))
	for _, scene := range append(scenes, "in all") {
		_, _ = fmt.Fprint(w, scene)
		for _, c := range columns() {
			_, _ = fmt.Fprintf(w, "\t%d", t[scene][c])
		}
		_, _ = fmt.Fprintln(w)
	}
	return w.Flush()
}
