package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/roles"
)

// compiled is a schema as `cnibox schema` prints it. The library compares it with the meta-schema first.
func compiled(t *testing.T, args ...string) *jsonschema.Schema {
	t.Helper()
	var doc any
	commandJSON(t, &doc, append([]string{"schema"}, args...)...)
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatalf("schema %v: %v", args, err)
	}
	return s
}

// fits is what a schema has against a configuration.
func fits(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return s.Validate(doc)
}

// The schema takes all configurations that others' documentation shows, and those of the project's own pages.
func TestSchemaTakesGood(t *testing.T) {
	t.Parallel()
	list, byRole := compiled(t), map[string]*jsonschema.Schema{}
	for role := range roleTable() {
		byRole[role] = compiled(t, role)
	}
	check := func(name, text string) {
		var keys struct{ Type string }
		if err := json.Unmarshal([]byte(text), &keys); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s := list
		if keys.Type != "" {
			s = byRole[keys.Type]
		}
		if s == nil {
			return // another's plugin
		}
		if err := fits(t, s, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	files, err := filepath.Glob(validateDir + "good/*")
	if err != nil || len(files) == 0 {
		t.Fatal("no files", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		check(file, string(text))
	}
	for _, e := range pageExamples(t) {
		check(fmt.Sprintf("%s:%d", e.page, e.line), e.text)
	}
}

func TestSchemaRefusesMistakes(t *testing.T) {
	t.Parallel()
	s := compiled(t)
	for _, name := range []string{
		"key-misspelt", "key-in-ipam-misspelt", "key-in-wrong-place", "key-unknown", "key-of-list-misspelt", "type-of-values", "type-in-ipam", "type-of-list",
		"type-number-too-large", "name-characters", "version-unknown", "list-empty", "list-ipam-as-plugin", "plugin-without-type", "capability-no-boolean",
		"value-bridge", "value-macvlan", "value-ipvlan", "value-vlan", "value-firewall", "value-bandwidth", "value-sbr-vrf", "ipam-is-no-ipam", "fused", "vxlan",
	} {
		text, err := os.ReadFile(validateDir + "broken/" + name + ".conflist")
		if err != nil {
			t.Fatal(err)
		}
		if err := fits(t, s, string(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// limitConfs are configurations in which keys can have all the values that they may, where those of typedConfs do not let them.
func limitConfs() map[string]string {
	burst := `"ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 8000000, "egressBurst": 800000`
	return map[string]string{
		"bridge.vlanTrunk[].minID":           `"vlanTrunk": [{"minID": 1, "maxID": 4094}]`,
		"bridge.vlanTrunk[].maxID":           `"vlanTrunk": [{"minID": 1, "maxID": 4094}]`,
		"sbr.table":                          `"x": 0`,
		"vxlan.mode":                         `"vni": 7, "peersFile": "/x", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.44.0.0/24", "rangeStart": "10.44.0.5", "rangeEnd": "10.44.0.9", "gateway": "10.44.0.1"}]]}`,
		"static":                             `"ipam": {"type": "static", "addresses": [{"address": "10.45.0.5/24"}], "routes": [{"dst": "0.0.0.0/0"}]}`,
		"dhcp.ipam.provide[].option":         `"ipam": {"type": "dhcp", "provide": [{"option": "12", "value": "x"}]}`,
		"bandwidth.runtimeConfig":            `"runtimeConfig": {"bandwidth": {` + burst + `}}`,
		"host-local.runtimeConfig.ipRanges":  `"ipam": {"type": "host-local"}, "runtimeConfig": {"ipRanges": [[{"subnet": "10.44.0.0/24"}]]}`,
		"portmap.runtimeConfig.portMappings": `"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}`,
	}
}

// What the tags say of a key's values is what its role takes, and refuses.
func TestLimitsAreThoseOfTheRoles(t *testing.T) {
	t.Parallel()
	table, limits := roleTable(), 0
	for _, role := range slices.Sorted(maps.Keys(table)) {
		var walk func(k *keys.Key, at []string)
		walk = func(k *keys.Key, at []string) {
			l := limit{t, role, table[role].(roles.Described), k, at}
			limits += l.test()
			for _, sub := range k.Keys {
				walk(sub, extend(at, sub.Name))
			}
			if k.Kind == keys.List && k.Elem != nil {
				walk(k.Elem, extend(at, "[]"))
			}
		}
		walk(keys.OfRole(table[role]), nil)
	}
	if limits < 150 {
		t.Errorf("only %d values were tried", limits)
	}
}

// limit is what is said of a key of a role.
type limit struct {
	t    *testing.T
	role string
	d    roles.Described
	k    *keys.Key
	at   []string
}

func (l *limit) test() (n int) {
	want := func(value string, taken bool) {
		n++
		if err := l.try(value); (err == nil) != taken {
			l.t.Errorf("%s: %s: %s: taken is to be %v: %v", l.role, confKey{at: l.at}, value, taken, err)
		}
	}
	for _, e := range l.k.Enum {
		if l.k.Kind == keys.List {
			want(`["`+e+`"]`, true)
			want(`["nonsense"]`, false)
			continue
		}
		want(strconv.Quote(e), true)
		want(`""`, !l.k.Required)
		want(`"nonsense"`, false)
	}
	number := func(n *int64, more int64) string { return strconv.FormatInt(*n+more, 10) }
	if l.k.Min != nil {
		want(number(l.k.Min, 0), true)
		want(number(l.k.Min, -1), l.k.Also != nil && *l.k.Also == *l.k.Min-1)
	}
	if l.k.Max != nil {
		want(number(l.k.Max, 0), true)
		want(number(l.k.Max, 1), false)
	}
	if l.k.Also != nil {
		want(number(l.k.Also, 0), true)
	}
	if l.k.Required {
		want("null", false)
	}
	return n
}

// try has the role judge a configuration with the value.
func (l *limit) try(value string) error {
	l.t.Helper()
	text, name := typedConfs()[l.role].conf, l.role+"."+confKey{at: l.at}.String()
	for key, conf := range limitConfs() {
		if strings.HasPrefix(name, key) {
			text = conf
		}
	}
	text = `{"cniVersion": "1.1.0", "name": "net", "type": "` + l.role + `"` + strings.Repeat(", ", min(1, len(text))) + text + "}"
	var base map[string]any
	if err := json.Unmarshal([]byte(text), &base); err != nil {
		l.t.Fatalf("%v in %s", err, text)
	}
	conf, err := json.Marshal(with(base, l.at, value))
	if err != nil {
		l.t.Fatal(err)
	}
	return l.d.CheckConf(roles.Rehearse("net", "1.1.0", bytes.TrimSpace(conf)))
}
