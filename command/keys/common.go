package keys

import "encoding/json"

// The keys that are no role's: those of a list, and those that every plugin has (CNI spec, section 1).

type list struct {
	CNIVersion             string          `json:"cniVersion" default:"0.1.0" doc:"version of the specification that the plugins are called in"`
	CNIVersions            []string        `json:"cniVersions" doc:"versions to choose from, for runtimes that do: the newest that all know"`
	Name                   string          `json:"name" required:"true" doc:"name of the network: a letter or digit, then letters, digits, '_', '.' and '-'"`
	DisableCheck           json.RawMessage `json:"disableCheck" type:"flag" default:"false" doc:"the runtime does not call CHECK. 'true' or '\"true\"'"`
	DisableGC              json.RawMessage `json:"disableGC" type:"flag" default:"false" doc:"the runtime does not call GC. 'true' or '\"true\"'"`
	LoadOnlyInlinedPlugins json.RawMessage `json:"loadOnlyInlinedPlugins" type:"flag" default:"false" doc:"the runtime adds no plugins from the folder that is named like the network"`
	Plugins                json.RawMessage `json:"plugins" type:"list" plugin:"list" required:"true" doc:"the plugins' configurations, in the order of ADD"`
}

type plugin struct {
	Type          string          `json:"type" required:"true" doc:"name of the plugin, which is that of its executable"`
	Capabilities  map[string]bool `json:"capabilities" doc:"what the runtime is to hand over in 'runtimeConfig'"`
	RuntimeConfig struct{}        `json:"runtimeConfig" open:"true" doc:"what the runtime hands over; it writes this itself"`
	Args          struct {
		CNI struct{} `json:"cni" open:"true"`
	} `json:"args" open:"true" doc:"further arguments, by whom they are for"`
	DNS dns `json:"dns" doc:"name servers, for runtimes that pass them on: 'nameservers', 'domain', 'search', 'options'"`
}

type dns struct {
	Nameservers []string `json:"nameservers"`
	Domain      string   `json:"domain"`
	Search      []string `json:"search"`
	Options     []string `json:"options"`
}

// alone are keys of a plugin's configuration that stands alone, or that a runtime has made: a list has them for its plugins.
type alone struct {
	CNIVersion  string          `json:"cniVersion" default:"0.1.0" doc:"version of the specification that the plugin is called in"`
	CNIVersions []string        `json:"cniVersions"`
	Name        string          `json:"name" doc:"name of the network: a letter or digit, then letters, digits, '_', '.' and '-'"`
	PrevResult  json.RawMessage `json:"prevResult" type:"object" doc:"the result of the plugin before; the runtime writes it"`
}

// OfList are the keys of a list itself.
func OfList() *Key { return Of(&list{}) }

// OthersOfList are keys of a list that programs keep something of their own in, and what.
func OthersOfList() map[string]string {
	return map[string]string{"args": "Podman keeps labels here", "nerdctlID": "nerdctl keeps the network's ID here", "nerdctlLabels": "nerdctl keeps labels here"}
}

// OfPlugin are the keys that every plugin may have.
func OfPlugin() *Key { return Merge(Of(&plugin{}), Of(&alone{})) }

// OfIPAM are the keys that every ipam plugin may have.
func OfIPAM() *Key {
	return Of(&struct {
		Type string `json:"type" required:"true" doc:"name of the ipam plugin"`
		Name string `json:"name"`
	}{})
}
