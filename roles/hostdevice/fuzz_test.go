package hostdevice

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// FuzzConf reads any configuration: a refusal has a code for just that, and what is accepted names one device, in no other folder of sysfs
// than those of devices.
func FuzzConf(f *testing.F) {
	for _, s := range []string{
		`{"device":"ens1","ipam":{"type":"x"}}`, `{"hwaddr":"02:00:00:00:00:07"}`, `{"kernelpath":"/sys/devices/pci0000:00/0000:00:1f.6"}`,
		`{"kernelpath":"/sys/devices/../../etc"}`, `{"pciBusID":"0000:00:1f.6","DPDKMode":true}`, `{"pciBusID":"../x"}`, `{"pciBusID":"/"}`,
		`{"pciBusID":"x","runtimeConfig":{"deviceID":"mlx5_core.sf.4"}}`, `{"device":"a","hwaddr":"b"}`, `[]`, `{`,
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		c, err := load(&roles.Request{Conf: []byte(text)})
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.DecodingFailure {
				t.Fatalf("code %d: %v", code, err)
			}
			return
		}
		if len(c.keys()) != 1 || c.HWAddr != "" && c.mac == nil {
			t.Fatalf("%+v", c)
		}
		for _, d := range sysfs(dir).candidates(c) {
			below, err := filepath.Rel(dir, d.dir)
			if err != nil || !strings.HasPrefix(below, "devices/") && filepath.Base(filepath.Dir(below)) != "devices" {
				t.Fatalf("%s leads to %s", text, d.dir)
			}
		}
	})
}
