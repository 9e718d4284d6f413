package doctor

import (
	"errors"
	"fmt"
	"io"

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
	for _, finding := range f.node.Findings {
		if finding.Kind != node.Orphan { // reservations for nobody, of which the pools tell
			f.told("", finding, l)
		}
	}
	for _, a := range f.node.Attachments {
		for _, finding := range a.Findings {
			if finding.Kind != node.Orphan {
				f.told(title(a)+": ", finding, l)
			}
		}
	}
	f.leftovers(l)
}

// told takes over what the snapshot has found, with what --fix can do about it.
func (f *facts) told(whose string, finding node.Finding, l *list) {
	severity, why := Warning, "the pod may lack something that it was given"
	var fix func() error
	switch finding.Fix {
	case "cnibox sync":
		severity, why, fix = Problem, "somebody has thrown it out: nft flush ruleset, or a firewall's reload", f.syncFilter
	case "cnibox overlay sync":
		severity, why, fix = Problem, "pods of other nodes cannot be reached, or not all", f.syncOverlays
	}
	added := l.add(severity, whose+finding.Text, why, finding.Fix)
	if fix != nil {
		added.by(fix)
	}
}

// leftovers tells what no living sandbox owns, as `cnibox gc` would with all runtimes that have been here.
func (f *facts) leftovers(l *list) {
	living, err := gc.FromAll()
	if err == nil {
		var all []*gc.Attachment
		if all, err = f.gc.Find(f.node); err == nil {
			f.gc.Judge(all, gc.Rules{Living: living, Older: f.older})
			for _, a := range all {
				f.leftover(a, l)
			}
		}
	}
	if len(f.node.Problems) == 0 {
		l.cannot("leftovers", err)
	}
}

func (f *facts) leftover(a *gc.Attachment, l *list) {
	if a.Kept != "" {
		return
	}
	l.add(Warning, fmt.Sprintf("%s is gone, and has left: %s", title(a.Attachment), a.Describe()), "addresses, ports and memory stay taken", "cnibox gc --runtime ... --yes").by(func() error {
		return f.gc.Free(f.ctx, a)
	})
}

// syncFilter does what `cnibox sync` does.
func (f *facts) syncFilter() error { return sync.Filter(f.ctx, io.Discard) }

// syncOverlays does what `cnibox overlay sync` does.
func (f *facts) syncOverlays() error { return overlay.Sync(io.Discard) }

// title names an attachment, with its pod if a runtime has told.
func title(a *node.Attachment) string {
	if a.Pod != "" {
		return a.Title() + " (pod " + a.Pod + ")"
	}
	return a.Title()
}
