package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/command/validate"
)

// configuration looks at the runtime's folder, and for the plugins that its files name.
func configuration(f *facts, l *list) {
	l.cannot(f.confDir, f.confErr)
	validated(f, l)
	order(f, l)
	plugins(f, l)
}

// validated tells what `cnibox validate` does.
func validated(f *facts, l *list) {
	if len(f.nets)+len(f.bad) == 0 {
		if f.confErr == nil {
			l.add(Warning, "there is no network configuration in "+f.confDir, "a runtime that looks there is not ready for pods",
				"put one there, or name the runtime's folder with --conf-dir")
		}
		return
	}
	paths, err := validate.List([]string{f.confDir})
	l.cannot(f.confDir, err)
	findings, err := validate.Files(paths, validate.Options{Table: f.gc.Table, Kinds: f.kinds})
	l.cannot(f.confDir, err)
	for _, x := range findings {
		at, severity, why := fmt.Sprintf("%s:%d:%d: ", x.File, x.Line, x.Column), Warning, "it may not do what was meant"
		if x.Severity == validate.Error {
			severity, why = Problem, "a runtime or a plugin refuses it, or does something else than was meant"
		}
		if x.Key != "" {
			at += x.Key + ": "
		}
		repair := "mend the file; cnibox validate " + f.confDir + " looks again"
		if x.Suggestion != "" {
			repair = "perhaps " + x.Suggestion + " was meant; " + repair
		}
		l.add(severity, at+x.Message, why, repair)
	}
}

// order tells which file comes first.
func order(f *facts, l *list) {
	if len(f.nets) > 1 {
		l.add(Note, fmt.Sprintf("of %d networks in %s, containerd and CRI-O give pods the first: %s of %s", len(f.nets), f.confDir, f.nets[0].Name, f.nets[0].File),
			"the order is that of the files' names", "if pods are to have another, give its file the first name")
	}
}

// plugins looks for the programs that networks name.
func plugins(f *facts, l *list) {
	self, err := os.Stat("/proc/self/exe")
	l.cannot("this program's file", err)
	type user struct{ plugin, network string }
	var missing []user
	var foreign, others []string
	for _, n := range f.nets {
		for _, p := range n.Plugins {
			for _, name := range []string{p.Type, p.IPAM} {
				if name == "" || strings.ContainsRune(name, '/') {
					continue
				}
				path := filepath.Join(f.plugins, name)
				info, err := os.Stat(path)
				switch {
				case errors.Is(err, fs.ErrNotExist):
					if u := (user{name, n.Name}); !slices.Contains(missing, u) {
						missing = append(missing, u)
					}
				case err != nil:
					l.cannot(path, err)
				case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
					l.add(Problem, path+" cannot be executed", "the network "+n.Name+" needs it", "chmod +x "+path+", or cnibox install --force")
				case f.gc.Table[name] == nil || self == nil || same(path, info, self):
				case ours(path):
					others = append(others, name)
				default:
					foreign = append(foreign, name)
				}
			}
		}
	}
	for _, u := range missing {
		repair := "install it there"
		if f.gc.Table[u.plugin] != nil {
			repair = "cnibox install --dir " + f.plugins
		}
		l.add(Problem, fmt.Sprintf("there is no plugin %s in %s", u.plugin, f.plugins), "each ADD of the network "+u.network+" fails", repair)
	}
	const names = "%s in %s"
	if others = unique(others); len(others) > 0 {
		l.add(Warning, fmt.Sprintf(names, strings.Join(others, ", "), f.plugins)+": another build of cnibox than this one", "what this program tells may not be what pods get",
			"install this one (cnibox install), or call the one that is installed")
	}
	if foreign = unique(foreign); len(foreign) > 0 {
		l.add(Note, fmt.Sprintf(names, strings.Join(foreign, ", "), f.plugins)+": another program than cnibox", "cnibox can be that plugin, but is not asked",
			"if cnibox is to be: cnibox install --force, which keeps the other beside it")
	}
	farm(f, l)
}

// same tells whether a plugin is this program, or a copy of it.
func same(path string, info, self os.FileInfo) bool {
	return os.SameFile(info, self) || info.Size() == self.Size() && equal(path, "/proc/self/exe")
}

// equal compares two files.
func equal(a, b string) bool {
	one, err := os.Open(a)
	if err != nil {
		return false
	}
	defer func() { _ = one.Close() }()
	other, err := os.Open(b)
	if err != nil {
		return false
	}
	defer func() { _ = other.Close() }()
	const chunk = 1 << 18
	p, q := make([]byte, chunk), make([]byte, chunk)
	for {
		n, err := io.ReadFull(one, p)
		m, err2 := io.ReadFull(other, q)
		if n != m || !bytes.Equal(p[:n], q[:m]) {
			return false
		}
		if err != nil || err2 != nil {
			return err != nil && err2 != nil
		}
	}
}

// ours tells whether a plugin is a link to a cnibox: the farm that `cnibox install` makes.
func ours(path string) bool {
	target, err := os.Readlink(path)
	return err == nil && strings.HasPrefix(filepath.Base(target), "cnibox")
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// farm looks whether all links of the folder lead to one cnibox.
func farm(f *facts, l *list) {
	entries, err := os.ReadDir(f.plugins)
	if err != nil {
		return // told of for each plugin that is missing
	}
	var first os.FileInfo
	var with, without, dead []string
	for _, e := range entries {
		path := filepath.Join(f.plugins, e.Name())
		if f.gc.Table[e.Name()] == nil || !ours(path) {
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			dead = append(dead, e.Name())
		case first == nil:
			first, with = info, []string{e.Name()}
		case os.SameFile(first, info):
			with = append(with, e.Name())
		default:
			without = append(without, e.Name())
		}
	}
	if len(without) > 0 {
		l.add(Warning, fmt.Sprintf("%s and %s in %s are different builds of cnibox", strings.Join(with, ", "), strings.Join(without, ", "), f.plugins),
			"plugins of one network should be of one version", "cnibox install --force --dir "+f.plugins)
	}
	if len(dead) > 0 {
		l.add(Warning, fmt.Sprintf("%s in %s lead to nothing", strings.Join(dead, ", "), f.plugins), "an ADD with them fails", "cnibox install --dir "+f.plugins)
	}
}
