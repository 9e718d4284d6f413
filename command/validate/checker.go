package validate

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/netutil/plainfile"
	"github.com/cnibox/cnibox/roles"
)

// Options are what configurations are compared with.
type Options struct {
	Table   roles.Table
	Kinds   map[string]string // of the roles: main, meta or ipam
	Dirs    []string          // where plugins are; none: that is not looked at
	MaxPods uint64            // of the node; 0: it is not known
}

type checker struct {
	table    roles.Table
	kinds    map[string]string
	names    []string // of the roles
	dirs     []string
	maxPods  uint64
	speaks   map[string][]string // CNI versions, by the path of the program
	networks []network
	files    map[string]*file // by the name of the network
	common   *keys.Key        // of all plugins
	keys     map[string]*keys.Key
}

// keysOf are the keys of a role; none if it is another's plugin.
func (c *checker) keysOf(kind string) *keys.Key {
	k := c.keys[kind]
	if k == nil {
		k = &keys.Key{}
		if role := c.table[kind]; role != nil {
			k = keys.OfRole(role)
		}
		c.keys[kind] = k
	}
	return k
}

// Files finds what is wrong with the configurations in files, in their order.
func Files(paths []string, o Options) ([]Finding, error) {
	var files []*file
	for _, path := range paths {
		text, err := read(path)
		if err != nil {
			return nil, err
		}
		files = append(files, &file{path: path, text: text})
	}
	return check(files, o), nil
}

// Text finds what is wrong with a configuration that is, or will be, in a file of that name.
func Text(path string, text []byte, o Options) []Finding {
	return check([]*file{{path: path, text: text}}, o)
}

func check(files []*file, o Options) []Finding {
	c := &checker{
		table: o.Table, kinds: o.Kinds, dirs: o.Dirs, maxPods: o.MaxPods, speaks: map[string][]string{}, files: map[string]*file{},
		common: keys.OfPlugin(), keys: map[string]*keys.Key{},
	}
	for name := range o.Table {
		c.names = append(c.names, name)
	}
	slices.Sort(c.names)
	for _, f := range files {
		c.file(f)
	}
	c.compare()
	findings := []Finding{}
	for _, f := range files {
		findings = append(findings, f.sorted()...)
	}
	return findings
}

// mostText bounds a configuration, in bytes, as the plugins do.
const mostText = 2 << 20

func read(path string) ([]byte, error) {
	f, err := plainfile.Open(path, mostText)
	if err != nil {
		return nil, err
	}
	return plainfile.Text(f, mostText)
}

// List are the configurations that arguments name: files, and what a runtime would read of folders.
func List(args []string) (paths []string, err error) {
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			paths = append(paths, arg)
			continue
		}
		entries, err := os.ReadDir(arg) // sorted by name, as runtimes do
		if err != nil {
			return nil, err
		}
		before := len(paths)
		for _, e := range entries {
			if !e.IsDir() && networks.IsConf(e.Name()) {
				paths = append(paths, filepath.Join(arg, e.Name()))
			}
		}
		if len(paths) == before {
			return nil, errors.New(arg + " holds no .conf, .conflist or .json file")
		}
	}
	return paths, nil
}

// file checks one configuration.
func (c *checker) file(f *file) {
	root, err := parse(f.text)
	var syntax *syntaxError
	switch {
	case errors.As(err, &syntax):
		f.report(Error, syntax.pos, "", "", "no JSON: %s", syntax.msg)
		return
	case root.kind != '{':
		f.report(Error, root.pos, "", "", "%s, where an object belongs", root.describe())
		return
	}
	ext, isList := filepath.Ext(f.path), root.get("plugins") != nil && root.get("type") == nil
	if root.get("plugins") == nil && root.get("type") == nil {
		isList = ext == ".conflist"
	}
	switch {
	case !networks.IsConf(f.path):
		f.report(Warning, root.pos, "", "", "runtimes read only files that end in .conf, .conflist or .json")
	case isList && ext == ".conf":
		f.report(Error, root.pos, "", "", "a list is read only from a file that ends in .conflist; this one is taken for a single plugin's")
	case isList && ext == ".json":
		f.report(Warning, root.pos, "", "", "a list is read only from a file that ends in .conflist")
	case !isList && ext == ".conflist":
		f.report(Error, root.pos, "", "", "a single plugin's configuration, where a list belongs; name the file .conf, or put the plugin into plugins")
	}
	if isList {
		c.list(f, root)
	} else {
		version := c.head(f, root)
		p := &plugin{checker: c, f: f, n: root, network: networkName(root), version: version}
		p.check()
		if c.needsPrev(p.kind) {
			f.report(Error, p.valueAt("type").pos, "type", "", "%s belongs behind the plugin that makes the container's interface, so into a list", p.kind)
		}
	}
}

// networkName is the network's name, or one that does for the roles' own checks.
func networkName(root *node) string {
	if name := root.str("name"); roles.ValidName(name) {
		return name
	}
	return "network"
}

// list checks a list.
func (c *checker) list(f *file, root *node) {
	own, others := keys.OfList(), keys.OthersOfList()
	w := &walker{
		f: f, owner: "a list", bad: map[*node]string{}, exact: true,
		top: func(m member) bool { return others[m.key] != "" },
		elsewhere: func(name string) string {
			if name == "capabilities" || name == "ipam" || c.common.Find(name) != nil && own.Find(name) == nil {
				return "plugins[]." + name
			}
			return ""
		},
	}
	w.value(root, own, "")
	version := c.head(f, root)
	plugins := root.get("plugins")
	switch {
	case plugins == nil:
		if dir := filepath.Join(filepath.Dir(f.path), root.str("name")); root.str("name") == "" || !isDir(dir) || root.isTrue("loadOnlyInlinedPlugins") {
			f.report(Error, root.pos, "plugins", "", "missing; it lists the plugins to call")
		}
	case plugins.kind == '[':
		c.chain(&chain{f: f, n: plugins, at: "plugins", network: networkName(root), version: version})
	}
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// head checks name and version, and returns the version that the plugins are called in.
func (c *checker) head(f *file, root *node) string {
	name := root.get("name")
	switch {
	case name == nil:
		f.report(Error, root.pos, "name", "", "missing; it is the name of the network")
	case name.kind == '"' && !roles.ValidName(name.text):
		f.report(Error, name.pos, "name", "", "%q is no name of a network: a letter or digit, then letters, digits, '_', '.' and '-'", name.text)
	case name.kind == '"' && c.files[name.text] != nil:
		f.report(Error, name.pos, "name", "", "the network %s is in %s too", name.text, c.files[name.text].path)
	case name.kind == '"':
		c.files[name.text] = f
	}
	version, all := root.get("cniVersion"), roles.Versions()
	best := ""
	if version != nil && version.kind == '"' && version.text != "" {
		best = version.text
		if !slices.Contains(all, best) {
			f.report(Error, version.pos, "cniVersion", whole(best, all), "no plugin speaks %q; cnibox speaks %s", best, strings.Join(all, ", "))
		}
	}
	if list := root.get("cniVersions"); list != nil && list.kind == '[' && len(list.elems) > 0 {
		known := 0
		for _, e := range list.elems {
			if i := slices.Index(all, e.text); i >= 0 {
				known, best = known+1, all[max(i, slices.Index(all, best))]
			}
		}
		if known == 0 {
			f.report(Error, list.pos, "cniVersions", "", "none of them is one that cnibox speaks: %s", strings.Join(all, ", "))
		}
	}
	if !slices.Contains(all, best) {
		best = all[0]
	}
	return best
}

// whole is the version that has this beginning.
func whole(beginning string, all []string) string {
	for _, v := range all {
		if strings.HasPrefix(v, beginning+".") {
			return v
		}
	}
	return ""
}
