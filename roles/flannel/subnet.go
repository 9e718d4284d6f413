package flannel

import (
	"errors"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// subnet is what flanneld tells of this node (its file subnet.env).
type subnet struct {
	networks []netip.Prefix // of all nodes, both families
	subnets  []netip.Prefix // of this node, at most one of each family
	mtu      int            // bytes
	masq     bool           // flanneld itself masquerades
}

// mostSubnet bounds flanneld's file, in bytes.
const mostSubnet = 64 << 10

// readSubnet reads the file. That it is missing, or has not all keys yet, passes as soon as flanneld runs.
func readSubnet(path string) (*subnet, error) {
	text, err := plainfile.ReadTrusted(path, mostSubnet)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errcode.Errorf(errcode.TryAgainLater, "subnetFile: %s is not there (yet); flanneld writes it", path)
	}
	if err != nil {
		return nil, errcode.Errorf(errcode.IOFailure, "subnetFile: %w", err)
	}
	return parseSubnet(path, string(text))
}

func parseSubnet(path, text string) (*subnet, error) {
	s := &subnet{}
	have := map[string]bool{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		var err error
		switch key {
		case "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK":
			err = parsePrefixes(&s.networks, value, key == "FLANNEL_IPV6_NETWORK")
			key = "FLANNEL_NETWORK"
		case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
			err = parsePrefixes(&s.subnets, value, key == "FLANNEL_IPV6_SUBNET")
			key = "FLANNEL_SUBNET"
		case "FLANNEL_MTU":
			s.mtu, err = strconv.Atoi(value)
		case "FLANNEL_IPMASQ":
			s.masq, err = strconv.ParseBool(value)
		}
		if err != nil {
			return nil, invalid("subnetFile: %s: %s: %v", path, key, err)
		}
		have[key] = true
	}
	for _, key := range []string{"FLANNEL_NETWORK", "FLANNEL_SUBNET", "FLANNEL_MTU", "FLANNEL_IPMASQ"} {
		if !have[key] {
			return nil, errcode.Errorf(errcode.TryAgainLater, "subnetFile: %s has no %s (yet)", path, key)
		}
	}
	return s, nil
}

// parsePrefixes reads a list with commas between.
func parsePrefixes(into *[]netip.Prefix, list string, v6 bool) error {
	for text := range strings.SplitSeq(list, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err == nil && (p.Addr().Is4In6() || p.Addr().Is6() != v6) {
			err = errors.New(p.String() + " is of the other family")
		}
		if err != nil {
			return err
		}
		*into = append(*into, p.Masked())
	}
	return nil
}
