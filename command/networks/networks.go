// Package networks reads the folder in which a runtime looks for network configurations.
package networks

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/netutil/plainfile"
	"github.com/cnibox/cnibox/roles"
)

// DefaultDir is where runtimes look if nobody tells them another folder.
const DefaultDir = "/etc/cni/net.d"

// DirFlag is --conf-dir.
func DirFlag() cli.Flag {
	return &cli.StringFlag{Name: "conf-dir", Usage: "the `FOLDER` of the runtime's network configurations", Value: DefaultDir}
}

// mostConf bounds what is read of a file, in bytes, as the plugins bound what they are handed.
const mostConf = 2 << 20

// Network is a network configuration of one file.
type Network struct {
	File       string // its path
	Name       string
	CNIVersion string
	Plugins    []Plugin
	DisableGC  bool
}

// Plugin is one of a network's plugins. Those of a fused list stand for it.
type Plugin struct {
	Type, IPAM string
	Conf       []byte // the plugin's own configuration, as the file has it
	Single     bool   // the file is this plugin's configuration, no list
}

// Bad is a file that is no network configuration.
type Bad struct {
	File string
	Err  error
}

// IsConf tells whether a runtime takes a file of its folder for a configuration, by the file's name.
func IsConf(name string) bool {
	return slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(name))
}

// Load reads the folder's configurations in the order in which runtimes go through them: by the files' names. A folder that is missing has none.
func Load(dir string) (all []Network, bad []Bad, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !IsConf(e.Name()) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		n, err := read(path)
		if err != nil {
			bad = append(bad, Bad{path, err})
			continue
		}
		all = append(all, *n)
	}
	return all, bad, nil
}

func read(path string) (*Network, error) {
	file, err := plainfile.Open(path, mostConf)
	if err != nil {
		return nil, err
	}
	text, err := plainfile.Text(file, mostConf)
	if err != nil {
		return nil, err
	}
	n, err := Parse(text)
	if err != nil {
		return nil, err
	}
	n.File = path
	return n, nil
}

// Parse reads a configuration list, or the configuration of a single plugin.
func Parse(text []byte) (*Network, error) {
	var c struct {
		common
		Name       string `json:"name"`
		CNIVersion string `json:"cniVersion"`
		DisableGC  any    `json:"disableGC"` // a word serves too
	}
	if err := roles.Decode(text, &c, false); err != nil {
		return nil, err
	}
	n := &Network{Name: c.Name, CNIVersion: c.CNIVersion, DisableGC: c.DisableGC == true || c.DisableGC == "true"}
	switch {
	case c.Name == "":
		return nil, errors.New("name: missing")
	case c.Type != "":
		n.add(text, &c.common, true, false)
	case len(c.Plugins) == 0:
		return nil, errors.New("plugins: missing, and so is type")
	}
	if c.Type == "" {
		if err := n.addAll(c.Plugins, false); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// common is what is read of each plugin.
type common struct {
	Type string `json:"type"`
	IPAM struct {
		Type string `json:"type"`
	} `json:"ipam"`
	Plugins []json.RawMessage `json:"plugins"`
}

// addAll adds the plugins of a list, which may be inside of a fused one.
func (n *Network) addAll(plugins []json.RawMessage, inside bool) error {
	for i, text := range plugins {
		var c common
		if err := roles.Decode(text, &c, false); err != nil {
			return errors.New(roles.Elem("plugins", i) + ": " + err.Error())
		}
		if c.Type == "" {
			return errors.New(roles.Elem("plugins", i) + ".type: missing")
		}
		n.add(text, &c, false, inside)
	}
	return nil
}

// add adds a plugin, or those that it stands for. A list is fused once.
func (n *Network) add(text []byte, c *common, single, inside bool) {
	if c.Type == fused && len(c.Plugins) > 0 && !inside && n.addAll(c.Plugins, true) == nil {
		return
	}
	n.Plugins = append(n.Plugins, Plugin{Type: c.Type, IPAM: c.IPAM.Type, Conf: slices.Clone(text), Single: single})
}

// fused is the role that runs a list in one process.
const fused = "cnibox"
