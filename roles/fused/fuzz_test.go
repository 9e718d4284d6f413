package fused

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/roles"
)

// FuzzFuse fuses any text. What is refused is refused with a code of its own; the plugins of what is fused are handed the same from the one
// form as from the other, and it is not fused twice.
func FuzzFuse(f *testing.F) {
	for _, s := range []string{
		`{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"a","capabilities":{"x":true,"y":false}},{"type":"b","ipam":{}}]}`,
		`{"name":"net","disableCheck":"TRUE","disableGC":false,"plugins":[{"type":"a","runtimeConfig":null}]}`,
		`{"name":"net","cniVersions":["1.1.0"],"PLUGINS":[{"TYPE":"a"}]}`, `{"name":"net","plugins":[[]]}`, `{"plugins":7}`, `[]`, `{`, ``,
	} {
		f.Add([]byte(s))
	}
	r := &roles.Request{Owner: owner.Owner{Network: "net"}, CNIVersion: "1.1.0"}
	known := []uint{errcode.DecodingFailure, errcode.InvalidConfig, errcode.IncompatibleVersion}
	f.Fuzz(func(t *testing.T, list []byte) {
		out, err := Fuse(list)
		if err != nil {
			if !slices.Contains(known, errcode.Of(err)) {
				t.Fatalf("code %d: %v", errcode.Of(err), err)
			}
			return
		}
		var fused struct{ Plugins []json.RawMessage }
		if err := json.Unmarshal(out, &fused); err != nil || len(fused.Plugins) != 1 {
			t.Fatalf("%v: %s", err, out)
		}
		before, err1 := load(list, false)
		after, err2 := load(fused.Plugins[0], false)
		if err1 != nil || err2 != nil || len(before.plugins) != len(after.plugins) ||
			before.disableCheck != after.disableCheck || before.disableGC != after.disableGC {
			t.Fatalf("%v, %v: %s", err1, err2, out)
		}
		for i := range before.plugins {
			one, err1 := before.confFor(&before.plugins[i], r)
			other, err2 := after.confFor(&after.plugins[i], r)
			if err1 != nil || err2 != nil || string(one) != string(other) {
				t.Fatalf("%s (%v), but fused %s (%v)", one, err1, other, err2)
			}
		}
		if _, err := Fuse(out); err == nil {
			t.Fatalf("fused again: %s", out)
		}
	})
}
