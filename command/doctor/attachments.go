package doctor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/command/gc"
	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/overlay"
	"github.com/cnibox/cnibox/command/sync"
)

// attachments tells what the snapshot has found, and what no living sandbox owns.
func attachments(f *facts, l *list) {
	for _, p := range f.node.Problems {
		l.cannot("attachments", errors.New(p))
	}
	told := map[string][]string{} // by what mends them all
	add := func(whose string, findings []node.Finding) {
		for _, x := range findings {
			switch {
			case x.Kind == node.Orphan: // leftovers, or reservations for nobody, of which the pools tell
			case x.Fix == fixFilter || x.Fix == fixOverlays:
				told[x.Fix] = append(told[x.Fix], whose+x.Text)
			default:
				l.add(Warning, whose+x.Text, "the pod may lack something that it was given", x.Fix)
			}
		}
	}
	add("", f.node.Findings)
	for _, a := range f.node.Attachments {
		add(title(a)+": ", a.Findings)
	}
	if lacking := told[fixFilter]; len(lacking) > 0 {
		l.add(Problem, some(lacking), "somebody has thrown it out: nft flush ruleset, or a firewall's reload", fixFilter).by(f.syncFilter)
	}
	if differs := told[fixOverlays]; len(differs) > 0 {
		l.add(Problem, some(differs), "pods of other nodes cannot be reached, or not all", fixOverlays).by(func() error { return overlay.Sync(io.Discard) })
	}
	f.leftovers(l)
}

// Repairs that the snapshot names.
const (
	fixFilter   = "cnibox sync"
	fixOverlays = "cnibox overlay sync"
)

// few is how many of a kind are told one by one.
const few = 3

// some are the first few of a list.
func some(list []string) string {
	text := strings.Join(list[:min(len(list), few)], "; ")
	if more := len(list) - few; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// leftovers tells what no living sandbox owns, as `cnibox gc` would with all runtimes that have been here.
func (f *facts) leftovers(l *list) {
	stale, err := f.stale()
	if len(f.node.Problems) == 0 {
		l.cannot("leftovers", err)
	}
	const why, repair = "addresses, ports and memory stay taken", "cnibox gc --runtime ... --yes"
	for _, a := range stale[:min(len(stale), few)] {
		l.add(Warning, fmt.Sprintf("%s is gone, and has left: %s", title(a.Attachment), a.Describe()), why, repair).by(func() error { return f.gc.Free(f.ctx, a) })
	}
	if len(stale) > few {
		rest := stale[few:]
		l.add(Warning, fmt.Sprintf("%s more are gone, and have left something", number(len(rest), "attachment")), why, repair).by(func() error {
			var errs []error
			for _, a := range rest {
				errs = append(errs, f.gc.Free(f.ctx, a))
			}
			return errors.Join(errs...)
		})
	}
}

// stale are the attachments that nobody living owns; none if that cannot be told.
func (f *facts) stale() ([]*gc.Attachment, error) {
	living, err := gc.FromAll()
	if err != nil {
		return nil, err
	}
	if living == nil && !seesAllProcesses() {
		return nil, errors.New("processes outside of this container are not seen, and no runtime's files are here, so nobody can tell who lives")
	}
	all, err := f.gc.Find(f.node)
	if err != nil {
		return nil, err
	}
	f.gc.Judge(all, gc.Rules{Living: living, Older: f.older})
	return slices.DeleteFunc(all, func(a *gc.Attachment) bool { return a.Kept != "" }), nil
}

// syncFilter does what `cnibox sync` does.
func (f *facts) syncFilter() error { return sync.Filter(f.ctx, io.Discard) }

// seesAllProcesses tells whether this runs in the machine's first PID namespace (linux/proc_ns.h, PROC_PID_INIT_INO): a sandbox that is not mounted is
// known by its processes alone.
func seesAllProcesses() bool {
	const first = "pid:[4026531836]"
	target, err := os.Readlink("/proc/self/ns/pid")
	return err == nil && target == first
}

// title names an attachment, with its pod if a runtime has told.
func title(a *node.Attachment) string {
	if a.Pod != "" {
		return a.Title() + " (pod " + a.Pod + ")"
	}
	return a.Title()
}
