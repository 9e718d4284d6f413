package hostlocal

import (
	"fmt"
	"testing"
)

func TestReadPools(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"ipam":{"type":"host-local","dataDir":"/d","subnet":"10.1.0.0/29","ranges":[[{"subnet":"fd00::/64","rangeStart":"fd00::10","rangeEnd":"fd00::1f"}]]}}`: "/d [10.1.0.1-10.1.0.6 fd00::10-fd00::1f] [10.1.0.0/29 fd00::/64] <nil>",
		`{"type":"bridge"}`: " [] [] <nil>",
		`{"ipam":{"dataDir":"/d","ranges":[[{"subnet":"10.1.0.1/29"}]]}}`: "/d [] [] ipam.ranges[0][0].subnet: 10.1.0.1/29 has host bits set; the subnet is 10.1.0.0/29",
		`{"ipam":{"dataDir":"/d","ranges":7}}`:                            "/d [] [] ipam.ranges: it is a JSON number, where a list belongs",
	} {
		p, err := ReadPools([]byte(text))
		if got := fmt.Sprint(p.DataDir, " ", p.Sets, " ", p.Subnets, " ", err); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", text, got, want)
		}
	}
}
