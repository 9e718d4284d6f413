package hostlocal

import (
	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/roles"
)

// Pools are the range sets of a plugin's configuration, and where their addresses are kept (empty: store.DefaultDir), for who wants to know how
// full they are. Ranges that only a runtime knows are not among them.
func Pools(text []byte) (dataDir string, sets []store.Set, err error) {
	var p place
	if err := roles.Decode(text, &p, true); err != nil {
		return "", nil, err
	}
	c := &conf{}
	if err := roles.Decode(text, c, false); err != nil || c.IPAM == nil {
		return p.IPAM.DataDir, nil, err
	}
	pools, err := c.sets()
	return p.IPAM.DataDir, storeSets(pools), err
}
