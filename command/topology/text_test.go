package topology

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/command/ui"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The tree and the graph of a small node are those in testdata.
func TestGolden(t *testing.T) {
	t.Parallel()
	s := newScene("node-a", spoil(made(2, false)))
	for name, got := range map[string]string{
		"tree.txt": s.text(true, ui.Colours{}), "ascii.txt": s.text(false, ui.Colours{}), "graph.dot": s.dot(),
		"beside.txt": newScene("node-a", scenes()["beside"]).text(true, ui.Colours{}),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
	}
}

// Graphviz takes whatever names there are.
func TestDotIsRead(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("dot"); err != nil {
		t.Skip("graphviz is not installed")
	}
	for name, n := range scenes() {
		cmd := exec.Command("dot", "-Tplain")
		cmd.Stdin = strings.NewReader(newScene(`a "node" \`, n).dot())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}
