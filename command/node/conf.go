package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// conf is what a network's configuration tells of its attachments, as far as it matters here.
type conf struct {
	types []string // of the plugins, in their order; those of a fused list each
	ipam  string   // type
	store string   // host-local's dataDir
}

// maxConf bounds what is read of a configuration or a result, in bytes.
const maxConf = 4 << 20

// confText is a network configuration, a list of them, or a fused one, which has its plugins inside.
type confText struct {
	Name    string     `json:"name"`
	Type    string     `json:"type"`
	Plugins []confText `json:"plugins"`
	IPAM    struct {
		Type    string `json:"type"`
		DataDir string `json:"dataDir"`
	} `json:"ipam"`
}

// parseConf reads a configuration; nil if it is none.
func parseConf(text []byte) (name string, c *conf) {
	var t confText
	if json.Unmarshal(text, &t) != nil || t.Name == "" {
		return "", nil
	}
	c = &conf{}
	c.add(&t)
	return t.Name, c
}

func (c *conf) add(t *confText) {
	if t.Type != "" && len(t.Plugins) == 0 {
		c.types = append(c.types, t.Type)
	}
	if c.ipam == "" {
		c.ipam, c.store = t.IPAM.Type, t.IPAM.DataDir
	}
	for i := range t.Plugins {
		c.add(&t.Plugins[i])
	}
}

// has tells whether a plugin is in the chain.
func (c *conf) has(plugin string) bool { return c != nil && slices.Contains(c.types, plugin) }

// main is the plugin that makes the interface.
func (c *conf) main() string {
	if c == nil || len(c.types) == 0 {
		return ""
	}
	return c.types[0]
}

// readConfs reads the configurations that the runtime is to use. They tell of attachments that no cache tells of. Of two for one network the first
// counts, as for runtimes.
func (r *reader) readConfs() {
	for _, dir := range r.Confs {
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			if !networks.IsConf(f.Name()) {
				continue
			}
			text, err := readFile(filepath.Join(dir, f.Name()))
			if err != nil {
				continue
			}
			if name, c := parseConf(text); c != nil && r.confs[name] == nil {
				r.confs[name] = c
				r.addStore(c)
			}
		}
	}
}

// addStore notes where a configuration has addresses kept.
func (r *reader) addStore(c *conf) {
	if c.store != "" && !slices.Contains(r.Stores, filepath.Clean(c.store)) {
		r.Stores = append(r.Stores[:len(r.Stores):len(r.Stores)], filepath.Clean(c.store))
	}
}

func readFile(path string) ([]byte, error) {
	file, err := plainfile.Open(path, maxConf)
	if err != nil {
		return nil, err
	}
	return plainfile.Text(file, maxConf)
}
