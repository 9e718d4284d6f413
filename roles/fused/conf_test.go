package fused

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	for conf, want := range map[string]string{
		`{}`:                                "plugins: missing",
		`{"plugins":null}`:                  "plugins: it is empty",
		`{"plugins":{}}`:                    "plugins: it is no list",
		`{"plugins":[]}`:                    "plugins: it is empty",
		`{"plugins":[{"type":"a"},7]}`:      "plugins[1]: it is no object",
		`{"plugins":[null]}`:                "plugins[0]: it is no object",
		`{"plugins":[{"type":"a"},{}]}`:     "plugins[1].type: missing",
		`{"plugins":[{"type":1}]}`:          "plugins[0].type: it is a JSON number, where a string belongs",
		`{"plugins":[{"capabilities":[]}]}`: "plugins[0].capabilities: it is a JSON array, where an object belongs",
		`{"disableGC":"perhaps","plugins":[{"type":"a"}]}`: `disableGC: "perhaps" is neither true nor false`,
		`{"disableCheck":1,"plugins":[{"type":"a"}]}`:      "disableCheck: 1 is neither",
		`{"runtimeConfig":1,"plugins":[{"type":"a"}]}`:     "runtimeConfig: it is a JSON number, where an object belongs",
	} {
		_, err := load([]byte(conf), false)
		if err == nil || errcode.Of(err) != errcode.InvalidConfig || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", conf, err, want)
		}
	}
}

// DEL and GC read what they can, and say what they cannot. Of a list that cannot be read nothing would be removed: that is an error too.
func TestLenient(t *testing.T) {
	t.Parallel()
	c, err := load([]byte(`{"disableGC":7,"runtimeConfig":[],"plugins":[{"type":"a","capabilities":7},{},{"type":"b"}]}`), true)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range c.plugins {
		got = append(got, p.Type)
		if p.err != nil {
			got = append(got, p.err.Error())
		}
	}
	if want := "a,,plugins[1].type: missing,b"; strings.Join(got, ",") != want {
		t.Errorf("read %q, want %s", got, want)
	}
	if _, err := load([]byte(`{"plugins":7}`), true); err == nil {
		t.Error("a list that cannot be read is none")
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{`true`: true, `"True"`: true, `false`: false, `"false"`: false, `null`: false} {
		c, err := load([]byte(`{"disableCheck":`+value+`,"disableGC":`+value+`,"plugins":[{"type":"a"}]}`), false)
		if err != nil || c.disableCheck != want || c.disableGC != want {
			t.Errorf("%s: %+v, %v", value, c, err)
		}
	}
}

// Each plugin is handed what it is capable of, and no more; what stood there stays only if it is handed nothing.
func TestRuntimeConfig(t *testing.T) {
	t.Parallel()
	c, err := load([]byte(`{
		"runtimeConfig": {"portMappings": [1], "bandwidth": {"ingressRate": 12345678901234567890}},
		"plugins": [
			{"type": "a", "capabilities": {"portMappings": true, "bandwidth": false, "mac": true}, "runtimeConfig": {"old": 1}},
			{"type": "b", "capabilities": {"mac": true}, "runtimeConfig": {"old": 1}, "name": "x", "cniVersion": "0.1.0"},
			{"type": "c", "capabilities": {"bandwidth": true}}
		]
	}`), false)
	if err != nil {
		t.Fatal(err)
	}
	r := &roles.Request{Owner: owner.Owner{Network: "net"}, CNIVersion: "1.0.0"}
	want := []string{`{"portMappings":[1]}`, `{"old":1}`, `{"bandwidth":{"ingressRate":12345678901234567890}}`}
	for i := range c.plugins {
		text, err := c.confFor(&c.plugins[i], r)
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Name, CNIVersion, Type string
			RuntimeConfig          json.RawMessage
		}
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got.Name != "net" || got.CNIVersion != "1.0.0" || got.Type != string(rune('a'+i)) || string(got.RuntimeConfig) != want[i] {
			t.Errorf("%d: %s", i, text)
		}
	}
}

func TestFuse(t *testing.T) {
	t.Parallel()
	const list = `{
		"name": "net", "cniVersion": "1.0.0", "disableGC": "true", "loadOnlyInlinedPlugins": true,
		"plugins": [
			{"type": "bridge", "capabilities": {"ips": true, "mac": false}, "vlan": 12345678901234567890, "text": "<&>"},
			{"type": "portmap", "capabilities": {"portMappings": true, "ips": false}}
		]
	}`
	const want = `{
		"name": "net", "cniVersion": "1.0.0", "disableGC": "true", "loadOnlyInlinedPlugins": true,
		"plugins": [{
			"type": "cnibox", "capabilities": {"ips": true, "portMappings": true}, "disableGC": "true",
			"plugins": [
				{"type": "bridge", "capabilities": {"ips": true, "mac": false}, "vlan": 12345678901234567890, "text": "<&>"},
				{"type": "portmap", "capabilities": {"portMappings": true, "ips": false}}
			]
		}]
	}`
	out, err := Fuse([]byte(list))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(tree(t, out), tree(t, []byte(want))) || !strings.Contains(string(out), `"<&>"`) {
		t.Errorf("fused is\n%s", out)
	}
	if out[len(out)-1] != '\n' {
		t.Error("no newline at the end")
	}
}

func tree(t *testing.T, text []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func TestFuseRefuses(t *testing.T) {
	t.Parallel()
	const plugins = `"plugins":[{"type":"bridge"}]`
	for list, want := range map[string]struct {
		code uint
		text string
	}{
		``:                              {errcode.DecodingFailure, "not JSON"},
		`[]`:                            {errcode.InvalidConfig, "where an object belongs"},
		`null`:                          {errcode.InvalidConfig, "name: missing"},
		`{` + plugins + `}`:             {errcode.InvalidConfig, "name: missing"},
		`{"name":7,` + plugins + `}`:    {errcode.InvalidConfig, "name: it is a JSON number"},
		`{"name":"net"}`:                {errcode.InvalidConfig, "plugins: missing"},
		`{"name":"net","PLUGINS":[{}]}`: {errcode.InvalidConfig, "plugins: missing"},
		`{"name":"net","type":"ptp"}`:   {errcode.InvalidConfig, "single plugin"},
		`{"name":"net","plugins":[{}]}`: {errcode.InvalidConfig, "plugins[0].type: missing"},
		`{"name":"net","plugins":[{"type":"cnibox","plugins":[]}]}`: {errcode.InvalidConfig, "fused already"},
		`{"name":"net","cniVersion":"9.9.9",` + plugins + `}`:       {errcode.IncompatibleVersion, `cniVersion: "9.9.9"`},
		`{"name":"net","cniVersions":["9.9.9"],` + plugins + `}`:    {errcode.IncompatibleVersion, `"9.9.9"`},
	} {
		out, err := Fuse([]byte(list))
		if out != nil || err == nil || errcode.Of(err) != want.code || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %s, %v", list, out, err)
		}
	}
	for _, head := range []string{``, `"cniVersion":"",`, `"cniVersions":["9.9.9","1.1.0"],`} {
		if _, err := Fuse([]byte(`{"name":"net",` + head + plugins + `}`)); err != nil {
			t.Errorf("%s: %v", head, err)
		}
	}
}
