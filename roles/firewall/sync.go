package firewall

import (
	"context"
	"errors"
	"fmt"

	"github.com/cnibox/cnibox/netutil"
)

// Sync makes anew what other programs have forgotten of containers, firewalld by a reload for example, and tells what that was. It comes
// behind the packet filter's own (nft.Tables.Restore).
func Sync(ctx context.Context, host *netutil.Namespace) (restored []string, err error) {
	zoned, err := syncZones(ctx, host)
	for _, z := range zoned {
		restored = append(restored, fmt.Sprintf("%s in firewalld's zone %s", z.Source, z.Zone))
	}
	legacy, err2 := netutil.NFT(host).Legacy()
	if len(legacy.Groups) > 0 {
		var changed bool
		if changed, err2 = settleLegacy(ctx, host); changed && err2 == nil {
			restored = append(restored, "rules of legacy iptables")
		}
	}
	return restored, errors.Join(err, err2)
}
