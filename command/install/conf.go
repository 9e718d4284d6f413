package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// confFile is a network configuration that install puts where a runtime looks for it.
type confFile struct {
	from, to string
	farm     string // where its plugins must be
}

// maxConf bounds what is taken for a configuration, in bytes; plugins take no more.
const maxConf = 2 << 20

// install writes the configuration unless it is there already, and says so. A runtime never finds half of it: the file is replaced in one step.
func (c *confFile) install(out io.Writer) (changed bool, err error) {
	text, err := c.read()
	if err != nil {
		return false, err
	}
	if now, err := os.ReadFile(c.to); err == nil && bytes.Equal(now, text) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(c.to), 0o755); err != nil {
		return false, err
	}
	// No runtime reads a file whose name begins with a dot and ends so.
	temp := filepath.Join(filepath.Dir(c.to), "."+filepath.Base(c.to)+tempPrefix+"new")
	if err := errors.Join(writeSynced(temp, text), os.Rename(temp, c.to)); err != nil {
		return false, errors.Join(err, removeIfExists(temp))
	}
	_, _ = fmt.Fprintf(out, "installed %s as %s\n", c.from, c.to)
	return true, nil
}

// read reads the configuration, and refuses what no runtime could use: the node would be ready, and every pod fail.
func (c *confFile) read() ([]byte, error) {
	info, err := os.Stat(c.from)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxConf {
		return nil, fmt.Errorf("%s: want a file of at most %d bytes", c.from, maxConf)
	}
	text, err := os.ReadFile(c.from)
	if err != nil {
		return nil, err
	}
	types, err := confTypes(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.from, err)
	}
	for _, name := range types {
		if _, err := os.Stat(filepath.Join(c.farm, name)); err != nil {
			return nil, fmt.Errorf("%s: plugin %q: %w", c.from, name, err)
		}
	}
	return text, nil
}

// confTypes is the plugins of a configuration or of a list.
func confTypes(text []byte) ([]string, error) {
	type plugin struct {
		Type string `json:"type"`
	}
	var conf struct {
		plugin
		Name    string   `json:"name"`
		Plugins []plugin `json:"plugins"`
	}
	if err := json.Unmarshal(text, &conf); err != nil {
		return nil, err
	}
	if conf.Name == "" {
		return nil, errors.New("name: missing")
	}
	plugins := conf.Plugins
	if plugins == nil {
		plugins = []plugin{conf.plugin}
	}
	if len(plugins) == 0 {
		return nil, errors.New("plugins: empty")
	}
	var types []string
	for i, p := range plugins {
		if p.Type == "" || p.Type != filepath.Base(p.Type) {
			return nil, fmt.Errorf("plugins[%d].type: %q is no plugin's name", i, p.Type)
		}
		types = append(types, p.Type)
	}
	return types, nil
}

// writeSynced writes a file of root's alone, and has it on disk.
func writeSynced(path string, text []byte) (err error) {
	if err := removeIfExists(path); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}
