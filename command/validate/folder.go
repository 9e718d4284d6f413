package validate

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/roles"
)

// executable looks for the plugin in the folders, as a runtime or the plugin that calls it would. Without folders only a slip in the name of one of our
// own can be seen, and others' names are believed.
func (p *plugin) executable(kind string, n *node, key string) {
	suggestion := ""
	if p.table[kind] == nil {
		suggestion = nearest(kind, p.names)
	}
	if len(p.dirs) == 0 {
		if suggestion != "" {
			p.f.report(Error, n.pos, key, suggestion, "%s is none of cnibox's plugins", kind)
		}
		return
	}
	path := p.find(kind)
	if path == "" {
		if p.inner && p.table[kind] != nil && p.hasOurs() {
			return // it is called in process
		}
		p.f.report(Error, n.pos, key, suggestion, "there is no plugin %s in %s", kind, strings.Join(p.dirs, ", "))
		return
	}
	if info, err := os.Stat(path); err != nil || info.Mode()&0o111 == 0 {
		p.f.report(Error, n.pos, key, "", "%s cannot be executed", path)
		return
	}
	if p.isOurs(path) || p.version == "" {
		return
	}
	speaks, err := p.versionsOf(path)
	switch {
	case err != nil:
		p.f.report(Warning, n.pos, key, "", "%s does not tell which CNI versions it speaks: %v", path, err)
	case !slices.Contains(speaks, p.version):
		p.f.report(Error, n.pos, key, "", "%s does not speak CNI %s; it speaks %s", path, p.version, strings.Join(speaks, ", "))
	}
}

func (c *checker) find(kind string) string {
	for _, dir := range c.dirs {
		path := filepath.Join(dir, kind)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// hasOurs tells whether the folders hold this program: then what it is need not be there by name.
func (c *checker) hasOurs() bool {
	return slices.ContainsFunc(c.dirs, func(dir string) bool {
		_, err := os.Stat(filepath.Join(dir, ours))
		return err == nil
	})
}

// ours is the name of this program in a plugin folder.
const ours = "cnibox"

// isOurs tells whether a plugin is this program, which speaks all versions.
func (c *checker) isOurs(path string) bool {
	found, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, other := range []string{"/proc/self/exe", filepath.Join(filepath.Dir(path), ours)} {
		if info, err := os.Stat(other); err == nil && os.SameFile(found, info) {
			return true
		}
	}
	return false
}

// versionsOf asks a program, once.
func (c *checker) versionsOf(path string) ([]string, error) {
	if speaks, ok := c.speaks[path]; ok {
		return speaks, nil
	}
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	speaks, err := roles.AskVersions(ctx, path)
	if err == nil {
		c.speaks[path] = speaks
	}
	return speaks, err
}
