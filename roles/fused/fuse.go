package fused

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// Fuse makes of a network configuration list the list that has one plugin, this role, with all plugins of the former in it. What else the
// list says stays as it is, for the runtime. The plugins themselves are not changed.
func Fuse(list []byte) ([]byte, error) {
	var keys map[string]json.RawMessage
	if err := roles.Decode(list, &keys, false); err != nil {
		return nil, err
	}
	if err := checkList(list, keys); err != nil {
		return nil, err
	}
	c, err := load(list, false)
	if err != nil {
		return nil, err
	}
	capabilities := map[string]bool{}
	for _, p := range c.plugins {
		if p.Type == Name {
			return nil, invalid("%s.type: %s: the list is fused already", p.key, Name)
		}
		for capability, has := range p.Capabilities {
			if has {
				capabilities[capability] = true
			}
		}
	}
	keys["plugins"], err = encode([]any{struct {
		Type         string          `json:"type"`
		Capabilities map[string]bool `json:"capabilities,omitempty"`
		DisableCheck json.RawMessage `json:"disableCheck,omitempty"` // these two for runtimes that do not heed the list's own
		DisableGC    json.RawMessage `json:"disableGC,omitempty"`
		Plugins      json.RawMessage `json:"plugins"`
	}{Name, capabilities, c.DisableCheck, c.DisableGC, c.Plugins}})
	if err != nil {
		return nil, err
	}
	return encode(keys)
}

// checkList checks what a runtime wants of a list beside its plugins.
func checkList(list []byte, keys map[string]json.RawMessage) error {
	var head struct {
		CNIVersion  string   `json:"cniVersion"`
		CNIVersions []string `json:"cniVersions"`
		Name        string   `json:"name"`
	}
	if err := roles.Decode(list, &head, false); err != nil {
		return err
	}
	if head.Name == "" {
		return invalid("name: missing")
	}
	asked := head.CNIVersions
	if head.CNIVersion != "" {
		asked = append(asked, head.CNIVersion)
	}
	ours := func(v string) bool { return slices.Contains(roles.Versions(), v) }
	if len(asked) > 0 && !slices.ContainsFunc(asked, ours) {
		return errcode.Errorf(errcode.IncompatibleVersion, "cniVersion: %q is not supported; supported are %s",
			strings.Join(asked, ", "), strings.Join(roles.Versions(), ", "))
	}
	_, isSingle := keys["type"]
	switch {
	case keys["plugins"] != nil:
		return nil
	case isSingle:
		return invalid("plugins: missing; this is the configuration of a single plugin, not a list")
	}
	return invalid("plugins: missing")
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}
