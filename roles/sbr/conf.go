package sbr

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	Table          *int64   `json:"table" min:"1" max:"4294967295" doc:"the routing table for the interface's addresses, whose routes are somebody else's (an ipam plugin's, by the key 'table' of its routes); left out: a free one from 100 for each address, which the interface's routes are moved to. 253 to 255 are the kernel's own"`
	Gateways       []string `json:"gateways" doc:"default gateways of the tables, in place of those that there are; several of a family share the load. Not together with 'table'"`
	AddSourceHints bool     `json:"addSourceHints" default:"false" doc:"routes of the tables have the address as preferred source; not together with 'table'"`

	gateways []netip.Addr
}

// load reads and checks the configuration.
func load(r *roles.Request) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, false); err != nil {
		return nil, err
	}
	if t := c.Table; t != nil {
		switch {
		case *t < 1 || *t > 1<<32-1:
			return nil, invalid("table: %d is not within 1 and %d", *t, uint32(1<<32-1))
		case *t == unix.RT_TABLE_DEFAULT || *t == unix.RT_TABLE_MAIN || *t == unix.RT_TABLE_LOCAL:
			return nil, invalid("table: %d is one of the kernel's own", *t)
		case len(c.Gateways) > 0:
			return nil, invalid("gateways: not together with table, whose routes are the ipam plugin's")
		case c.AddSourceHints:
			return nil, invalid("addSourceHints: not together with table, whose routes are the ipam plugin's")
		}
	}
	for i, text := range c.Gateways {
		a, err := roles.ParseAddr(roles.Elem("gateways", i), text)
		if err != nil {
			return nil, err
		}
		if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return nil, invalid("%s: %s cannot be a gateway", roles.Elem("gateways", i), a)
		}
		c.gateways = append(c.gateways, a)
	}
	return c, nil
}

func invalid(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}
