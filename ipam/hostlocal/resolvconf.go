package hostlocal

import (
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// maxResolvConf bounds what is read of a resolv.conf, in bytes.
const maxResolvConf = 1 << 20

// readResolvConf reads a file as resolv.conf(5) describes it. It may be anybody's: systemd-resolved's belongs to a user of its own. Several
// lines of a kind add up, but for the domain.
func readResolvConf(path string) (dns types.DNS, err error) {
	var text []byte
	f, err := plainfile.Open(path, maxResolvConf)
	if err == nil {
		text, err = plainfile.Text(f, maxResolvConf)
	}
	if err != nil {
		return dns, errcode.Errorf(errcode.InvalidConfig, "ipam.resolvConf: %w", err)
	}
	return parseResolvConf(string(text)), nil
}

func parseResolvConf(text string) (dns types.DNS) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] { // a comment's first word is none of these
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, fields[1])
		case "domain":
			dns.Domain = fields[1]
		case "search":
			dns.Search = append(dns.Search, fields[1:]...)
		case "options":
			dns.Options = append(dns.Options, fields[1:]...)
		}
	}
	return dns
}
