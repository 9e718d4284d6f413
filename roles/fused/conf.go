package fused

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	Plugins       json.RawMessage            `json:"plugins" type:"list" plugin:"list" required:"true" doc:"the configurations of the plugins, in the order of ADD, each as it would stand in the list itself"`
	RuntimeConfig map[string]json.RawMessage `json:"runtimeConfig" doc:"what the runtime hands over. Each plugin gets that part of it which its own 'capabilities' name. The role's own 'capabilities' are those of all of them ('cnibox fuse' writes them)"`
	DisableCheck  json.RawMessage            `json:"disableCheck" type:"flag" default:"false" doc:"CHECK calls no plugin. 'true' or '\"true\"'"`
	DisableGC     json.RawMessage            `json:"disableGC" type:"flag" default:"false" doc:"GC calls no plugin. 'true' or '\"true\"'"`

	disableCheck, disableGC bool
	plugins                 []plugin
}

// plugin is an entry of the list.
type plugin struct {
	Type         string          `json:"type"`
	Capabilities map[string]bool `json:"capabilities"`

	key  string // where the configuration has it
	conf []byte // as it stands there
	err  error  // why it cannot be called
}

// load reads the configuration. Read leniently, entries of the list that are wrong are kept, with what is wrong with each.
func load(raw []byte, lenient bool) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(raw, c, lenient); err != nil {
		return nil, err
	}
	var wrongCheck, wrongGC error
	c.disableCheck, wrongCheck = parseFlag("disableCheck", c.DisableCheck)
	c.disableGC, wrongGC = parseFlag("disableGC", c.DisableGC)
	if err := errors.Join(wrongCheck, wrongGC); err != nil && !lenient {
		return nil, err
	}
	var err error
	c.plugins, err = parsePlugins(c.Plugins, lenient)
	return c, err
}

// parsePlugins reads the list. One that cannot be read at all is an error for every verb: what it has attached would be left.
func parsePlugins(list json.RawMessage, lenient bool) ([]plugin, error) {
	if len(list) == 0 {
		return nil, invalid("plugins: missing; it lists the plugins to run")
	}
	var entries []json.RawMessage
	if json.Unmarshal(list, &entries) != nil {
		return nil, invalid("plugins: it is no list")
	}
	if len(entries) == 0 {
		return nil, invalid("plugins: it is empty")
	}
	plugins := make([]plugin, len(entries))
	for i, entry := range entries {
		p := &plugins[i]
		p.key, p.conf = roles.Elem("plugins", i), entry
		if p.err = p.parse(lenient); p.err != nil && !lenient {
			return nil, p.err
		}
	}
	return plugins, nil
}

func (p *plugin) parse(lenient bool) error {
	if !strings.HasPrefix(string(p.conf), "{") {
		return invalid("%s: it is no object", p.key)
	}
	if err := roles.Decode(p.conf, p, lenient); err != nil {
		return fmt.Errorf("%s.%w", p.key, err)
	}
	if p.Type == "" {
		return invalid("%s.type: missing", p.key)
	}
	return nil
}

// parseFlag reads a boolean, or the word for one: the CNI library takes both.
func parseFlag(key string, raw json.RawMessage) (bool, error) {
	switch strings.ToLower(strings.Trim(string(raw), `"`)) {
	case "", "null", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, invalid("%s: %s is neither true nor false", key, raw)
}

// confFor is the configuration that a runtime would call the plugin with, but for what is said of the attachment itself: the name and the
// version are the network's, and of runtimeConfig it is handed what it is capable of.
func (c *conf) confFor(p *plugin, r *roles.Request) ([]byte, error) {
	set := map[string]any{"name": r.Owner.Network, "cniVersion": r.CNIVersion}
	handed := map[string]json.RawMessage{}
	for capability, has := range p.Capabilities {
		if value, ok := c.RuntimeConfig[capability]; has && ok {
			handed[capability] = value
		}
	}
	if len(handed) > 0 {
		set["runtimeConfig"] = handed
	}
	return roles.WithKeys(p.conf, set)
}

func invalid(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}
