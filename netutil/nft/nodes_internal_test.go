package nft

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMerged(t *testing.T) {
	t.Parallel()
	for have, want := range map[string]string{
		"":                        "",
		"10.0.1.0/24":             "10.0.1.0/24",
		"10.0.1.0/24 10.0.2.0/24": "10.0.1.0/24 10.0.2.0/24",
		"10.0.3.0/24 10.0.2.0/24": "10.0.2.0/23",
		"10.0.0.0/24 10.0.1.0/24 10.0.2.0/24 10.0.3.0/24":             "10.0.0.0/22",
		"10.0.0.0/23 10.0.1.0/24 10.0.2.0/24 fd00:1::/64 fd00:0::/64": "10.0.0.0/23 10.0.2.0/24 fd00::/64 fd00:1::/64",
		"128.0.0.0/1 0.0.0.0/1":                                       "0.0.0.0/0",
		"fd00:0:0:1::/64 fd00::/64":                                   "fd00::/63",
	} {
		var in []netip.Prefix
		for text := range strings.FieldsSeq(have) {
			in = append(in, netip.MustParsePrefix(text))
		}
		var got []string
		for _, p := range merged(in) {
			got = append(got, p.String())
		}
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s comes to %s, want %s", have, text, want)
		}
	}
}
