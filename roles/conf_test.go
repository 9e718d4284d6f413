package roles

import (
	"maps"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	type section struct {
		Flag bool     `json:"flag"`
		List []string `json:"list"`
	}
	type inner struct {
		Rate int `json:"rate"`
	}
	type Outer struct {
		Burst int `json:"burst"`
	}
	type config struct {
		inner
		Outer
		Sets  [][]inner         `json:"sets"`
		Name  string            `json:"name"`
		Size  uint16            `json:"size"`
		Level int               `json:"level"`
		Part  section           `json:"part"`
		Parts map[string]string `json:"parts"`
	}
	for text, want := range map[string]string{
		`{"name":7,"size":3}`:       "name: it is a JSON number, where a string belongs",
		`{"size":-1}`:               "size: it is a JSON number -1, where a whole number from 0 belongs",
		`{"size":70000}`:            "size: it is a JSON number 70000, where a whole number from 0 belongs",
		`{"level":1.5}`:             "level: it is a JSON number 1.5, where a whole number belongs",
		`{"part":{"flag":"yes"}}`:   "part.flag: it is a JSON string, where a boolean belongs",
		`{"part":{"list":"a"}}`:     "part.list: it is a JSON string, where a list belongs",
		`{"part":{"list":["a",1]}}`: "part.list[1]: it is a JSON number, where a string belongs",
		`{"rate":"x"}`:              "rate: it is a JSON string, where a whole number belongs",
		`{"burst":1e999}`:           "burst: it is a JSON number 1e999, where a whole number belongs",
		`{"parts":{"a":"b","C":5}}`: "parts.C: it is a JSON number, where a string belongs",
		`{"SETS":[[],[{},{"rate":{"rate":[1]}}]],"size":1}`: "SETS[1][1].rate: it is a JSON object, where a whole number belongs",
		`{"sets":[[],7]}`:                    "sets[1]: it is a JSON number, where a list belongs",
		`["a"]`:                              "the network configuration is a JSON array, where an object belongs",
		`{"u":[1e999,{"v":[]}],"rate":true}`: "rate: it is a JSON bool, where a whole number belongs",
		`{"part":[]}`:                        "part: it is a JSON array, where an object belongs",
		`{"parts":[]}`:                       "parts: it is a JSON array, where an object belongs",
		`"x"`:                                "the network configuration is a JSON string, where an object belongs",
	} {
		err := Decode([]byte(text), &config{}, false)
		if errcode.Of(err) != errcode.InvalidConfig || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
		if err := Decode([]byte(text), &config{}, true); err != nil {
			t.Errorf("%s, leniently: %v", text, err)
		}
	}
	for _, text := range []string{``, `{`, `{"name":"x"} x`, "\xff"} {
		for _, lenient := range []bool{false, true} {
			if err := Decode([]byte(text), &config{}, lenient); errcode.Of(err) != errcode.DecodingFailure {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
	var c config
	if err := Decode([]byte(`{"NAME":"a","unknown":{},"size":"big","part":{"flag":true,"list":["b"]},"level":null}`), &c, true); err != nil {
		t.Error(err)
	}
	if c.Name != "a" || c.Size != 0 || !c.Part.Flag || len(c.Part.List) != 1 {
		t.Errorf("read %+v", c)
	}
}

func TestParseArgs(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]map[string]string{
		"":                            {},
		";;":                          {},
		"IgnoreUnknown=1;IP=10.0.0.1": {"IgnoreUnknown": "1", "IP": "10.0.0.1"},
		"A=B=C;D=;":                   {"A": "B=C", "D": ""},
		"A=1;A=2":                     {"A": "2"},
	} {
		if got, err := ParseArgs(s); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
	for s, want := range map[string]string{"A": "number 1 ", "A=1;=2": "number 2 ", "A=1;;B": "number 3 "} {
		if _, err := ParseArgs(s); errcode.Of(err) != errcode.InvalidEnvironment || !strings.Contains(err.Error(), "CNI_ARGS: "+want) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"eth0", "a.b", "fifteen_bytes_x", "é", "@"} {
		if err := CheckLinkName("bridge", name); err != nil {
			t.Error(err)
		}
	}
	for mtu, ok := range map[int]bool{0: true, 68: true, 65535: true, 67: false, 65536: false, -1: false} {
		if err := CheckMTU(mtu); (err == nil) != ok {
			t.Errorf("mtu %d: %v", mtu, err)
		}
	}
	v4, v6 := []IP{ipOf("10.0.0.5/24", "")}, []IP{ipOf("10.0.0.5/24", ""), ipOf("fd00::5/64", "")}
	for _, err := range []error{CheckMTUFor(v4, 1279), CheckMTUFor(v6, 1280), CheckMTUFor(v6, 0)} {
		if err != nil {
			t.Error(err)
		}
	}
	for mac, want := range map[string]string{"02:00:00:00:00:01": "02:00:00:00:00:01", "0A-58-0A-00-00-01": "0a:58:0a:00:00:01", "0200.5e10.0001": "02:00:5e:10:00:01"} {
		if got, err := ParseMAC("mac", mac); err != nil || got.String() != want {
			t.Errorf("%s: %s, %v", mac, got, err)
		}
	}
	errs := map[string]error{
		`bridge: ""`: CheckLinkName("bridge", ""), `bridge: "."`: CheckLinkName("bridge", "."), `bridge: "a b"`: CheckLinkName("bridge", "a b"),
		`bridge: "sixteen_bytes_xx"`: CheckLinkName("bridge", "sixteen_bytes_xx"), `bridge: "a:1"`: CheckLinkName("bridge", "a:1"),
		`bridge: "a\x00"`: CheckLinkName("bridge", "a\x00"), `bridge: "a%d"`: CheckLinkName("bridge", "a%d"),
		`bridge: "all"`: CheckLinkName("bridge", "all"), `bridge: "default"`: CheckLinkName("bridge", "default"),
		"mtu: 67 is not within 68 and 65535":            CheckMTU(67),
		"mtu: 1279 is less than 1280, which IPv6 needs": CheckMTUFor(v6, 1279),
		`ipMasqBackend: "ipfw"`:                         CheckMasqueradeBackend("ipfw"),
	}
	for _, mac := range []string{"", "x", "00:00:00:00:00:00", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "02:00:00:00:00:01:02:03"} {
		_, errs[`mac: "`+mac+`" is no unicast MAC address`] = ParseMAC("mac", mac)
	}
	for want, err := range errs {
		if errcode.Of(err) != errcode.InvalidConfig || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
