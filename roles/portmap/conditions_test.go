package portmap

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
)

func is(key, value string) nft.Condition  { return nft.Condition{Key: key, Value: value} }
func not(key, value string) nft.Condition { return nft.Condition{Key: key, Value: value, Negate: true} }

func TestConditions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		words string // separated by "|" as the list's strings
		is6   bool
		want  []nft.Condition
	}{
		{words: ""},
		{words: "!|-d|192.0.2.0/24", want: []nft.Condition{not("daddr", "192.0.2.0/24")}},
		{words: "! -d 192.0.2.0/24", want: []nft.Condition{not("daddr", "192.0.2.0/24")}},
		{words: "-d|192.0.2.7|-s|10.0.0.9/8", want: []nft.Condition{is("daddr", "192.0.2.7/32"), is("saddr", "10.0.0.0/8")}},
		{words: "--source|10.0.0.0/255.255.0.0", want: []nft.Condition{is("saddr", "10.0.0.0/16")}},
		{words: "!|--destination|fd00::1", is6: true, want: []nft.Condition{not("daddr", "fd00::1/128")}},
		{words: "-i|eth0|!|--in-interface|veth+", want: []nft.Condition{is("iifname", "eth0"), not("iifname", "veth*")}},
		{words: "-m|mark|--mark|16", want: []nft.Condition{is("mark", "0x10")}},
		{words: "-m|mark|!|--mark|0x1/0xff", want: []nft.Condition{not("mark", "0x1/0xff")}},
		{words: "--match|mark|--mark|0x1/0xffffffff", want: []nft.Condition{is("mark", "0x1")}},
		{words: "ip daddr != 192.0.2.0/24", want: []nft.Condition{not("daddr", "192.0.2.0/24")}},
		{words: "ip|saddr|10.1.2.3", want: []nft.Condition{is("saddr", "10.1.2.3/32")}},
		{words: "ip6 saddr == fd00::/8|ip6 daddr ne fd01::/16", is6: true, want: []nft.Condition{is("saddr", "fd00::/8"), not("daddr", "fd01::/16")}},
		{words: `iifname "eth0"|meta iifname != eth1*`, want: []nft.Condition{is("iifname", "eth0"), not("iifname", "eth1*")}},
		{words: "meta mark 1|mark & 0xff != 0x2", want: []nft.Condition{is("mark", "0x1"), not("mark", "0x2/0xff")}},
		{words: "meta mark and 0xf0 eq 0x20", want: []nft.Condition{is("mark", "0x20/0xf0")}},
		// What every packet meets is no condition.
		{words: "-s|0.0.0.0/0|-i|+|-m|mark|--mark|0/0"},
		{words: "ip6 daddr ::/0|iifname *", is6: true},
	}
	for _, tt := range tests {
		got, err := parseConditions("conditionsV4", strings.Split(tt.words, "|"), tt.is6)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v; want %+v", tt.words, got, err, tt.want)
		}
	}
}

func TestBadConditionsNameKeyAndWord(t *testing.T) {
	t.Parallel()
	tests := []struct {
		words string
		code  uint
		want  string // the word
	}{
		{"-p tcp", errcode.UnsupportedField, `"-p"`},
		{"-d 192.0.2.1 -j ACCEPT", errcode.UnsupportedField, `"-j"`},
		{"! -m mark --mark 1", errcode.UnsupportedField, `"-m mark"`},
		{"-m comment --comment x", errcode.UnsupportedField, `"-m comment"`},
		{"-m", errcode.UnsupportedField, `"-m `},
		{"!", errcode.UnsupportedField, `""`},
		{"tcp dport 80", errcode.UnsupportedField, `"tcp"`},
		{"ip protocol 6", errcode.UnsupportedField, `"ip protocol"`},
		{"meta l4proto 6", errcode.UnsupportedField, `"meta l4proto"`},
		{"192.0.2.1", errcode.UnsupportedField, `"192.0.2.1"`},
		{"-d", errcode.InvalidConfig, `""`},
		{"-d ! 192.0.2.1", errcode.InvalidConfig, `"!"`},
		{"-d example.org", errcode.InvalidConfig, `"example.org"`},
		{"-d 192.0.2.0/33", errcode.InvalidConfig, `"192.0.2.0/33"`},
		{"-d 192.0.2.0/255.0.255.0", errcode.InvalidConfig, `"192.0.2.0/255.0.255.0"`},
		{"-d 192.0.2.1,192.0.2.2", errcode.InvalidConfig, `"192.0.2.1,192.0.2.2"`},
		{"ip saddr { 192.0.2.1 }", errcode.InvalidConfig, `"{"`},
		{"-d fd00::1", errcode.InvalidConfig, `"fd00::1"`},
		{"ip6 daddr fd00::1", errcode.InvalidConfig, `"ip6"`},
		{"-i a-name-much-too-long", errcode.InvalidConfig, `"a-name-much-too-long"`},
		{"-i eth/0", errcode.InvalidConfig, `"eth/0"`},
		{"--mark x", errcode.InvalidConfig, `"x"`},
		{"--mark 0x100000000", errcode.InvalidConfig, `"0x100000000"`},
		{"--mark 1/", errcode.InvalidConfig, `"1/"`},
		{"--mark 0x100/0xff", errcode.InvalidConfig, `"0x100/0xff"`},
		{"mark & 0xff < 3", errcode.InvalidConfig, `"</0xff"`},
		{"! -s 0.0.0.0/0", errcode.InvalidConfig, `"not saddr 0.0.0.0/0"`},
		{`-i "`, errcode.InvalidConfig, "has a quotation mark"},
		{"iifname != *", errcode.InvalidConfig, `"not iifname *"`},
	}
	for _, tt := range tests {
		_, err := parseConditions("conditionsV4", strings.Fields(tt.words), false)
		if err == nil || errcode.Of(err) != tt.code || !strings.HasPrefix(err.Error(), "conditionsV4: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v (code %d), want code %d and %s", tt.words, err, errcode.Of(err), tt.code, tt.want)
		}
	}
}

// words writes a condition as nft has it.
func words(c nft.Condition, is6 bool) string {
	operator := " "
	if c.Negate {
		operator = " != "
	}
	switch value, mask, masked := strings.Cut(c.Value, "/"); {
	case c.Key == "mark" && masked:
		return "mark & " + mask + operator + value
	case c.Key == "mark", c.Key == "iifname":
		return c.Key + operator + c.Value
	case is6:
		return "ip6 " + c.Key + operator + c.Value
	}
	return "ip " + c.Key + operator + c.Value
}

func FuzzConditions(f *testing.F) {
	f.Add("! -d 192.0.2.0/24 -s 10.0.0.0/255.0.0.0 -i eth+ -m mark ! --mark 0x1/0xff", false)
	f.Add(`ip6 daddr != fd00::/8 ip6 saddr fd01::1 iifname "eth*" meta mark & 0xff == 0x1 mark 7`, true)
	f.Add("-d", false)
	f.Add(`-i "`, false)
	f.Fuzz(func(t *testing.T, text string, is6 bool) {
		got, err := parseConditions("conditions", []string{text}, is6)
		if err != nil {
			if code := errcode.Of(err); code != errcode.InvalidConfig && code != errcode.UnsupportedField {
				t.Errorf("%v has the code %d", err, code)
			}
			if !strings.HasPrefix(err.Error(), "conditions: ") {
				t.Errorf("%v does not name the key", err)
			}
			return
		}
		var again []string
		for _, c := range got {
			if c.Key == "saddr" || c.Key == "daddr" {
				if p, err := netip.ParsePrefix(c.Value); err != nil || p != p.Masked() || p.Addr().Is6() != is6 {
					t.Errorf("%+v: value is no prefix of its family", c)
				}
			}
			again = append(again, words(c, is6))
		}
		back, err := parseConditions("conditions", again, is6)
		if err != nil || !reflect.DeepEqual(back, got) {
			t.Errorf("%q reads as %+v, but written as %q as %+v, %v", text, got, again, back, err)
		}
	})
}
