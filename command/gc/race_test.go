package gc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/roles/fused"
	"github.com/cnibox/cnibox/roles/roletest"
)

// Pods that are attached while gc runs are not in its list, and keep all that they have.
func TestWhilePodsCome(t *testing.T) {
	n := newNode(t)
	const pods = 12
	var made []*roletest.Pod
	for i := range pods {
		made = append(made, n.Pod(fmt.Sprintf("blue-%d", i)))
	}
	list, done := n.list("somebody"), make(chan error, 1)
	go func() {
		for i, p := range made {
			if _, err := n.Do(roletest.Call{Verb: "ADD", Role: fused.Name, Pod: p, Conf: fmt.Sprintf(blue, 9000+i)}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	runs := 0
	for running := true; running; runs++ {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
		}
		if out, err := n.gc("--from", list, "--yes"); err != nil && !strings.Contains(err.Error(), "not all of the node could be seen") || strings.Contains(out, "freed") {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	out, err := n.gc("--from", list, "--verbose")
	if err != nil || strings.Count(out, "keeps blue/") != pods || strings.Count(out, "fd13:213::") < pods {
		t.Errorf("after %d runs: %v\n%s", runs, err, out)
	}
}
