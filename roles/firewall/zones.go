package firewall

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/firewalld"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/roles"
)

// This file keeps containers' addresses in zones of firewalld. Which belong there stands in the packet filter, since firewalld knows no
// owners, and forgets them all when it is reloaded.

// zones is a connection to the firewalld of a host.
type zones struct {
	*firewalld.Firewalld
	host *netutil.Namespace
}

func openZones(ctx context.Context, host *netutil.Namespace) (*zones, error) {
	f, err := firewalld.Open(ctx)
	return &zones{f, host}, err
}

// enter puts into their zones all addresses that belong there. An error is only what concerns the attachment whose link is named so: another
// network's zone may be gone.
func (z *zones) enter(link string) error {
	all, err := netutil.NFT(z.host).Zoned()
	if err != nil {
		return err
	}
	mine, others := split(all, link)
	_, _ = z.put(others)
	_, err = z.put(mine)
	return err
}

// split tells an attachment's addresses from others'.
func split(all []nft.Zoned, link string) (mine, others []nft.Zoned) {
	for _, a := range all {
		if a.Link == link {
			mine = append(mine, a)
		} else {
			others = append(others, a)
		}
	}
	return mine, others
}

// put puts the addresses into their zones, and returns those that were not there. It goes on after errors and joins them.
func (z *zones) put(all []nft.Zoned) (entered []nft.Zoned, err error) {
	missing, err := z.missing(all)
	errs := []error{err}
	for _, m := range missing {
		err := z.Add(m.Zone, m.Source)
		errs = append(errs, err)
		if err == nil {
			entered = append(entered, m)
		}
	}
	if len(entered) == 0 {
		return nil, errors.Join(errs...)
	}
	// A container may have been deleted meanwhile.
	now, err := netutil.NFT(z.host).Zoned()
	if errs = append(errs, err); err == nil {
		for _, e := range entered {
			if !listed(now, e) {
				errs = append(errs, z.Remove(e.Zone, e.Source))
			}
		}
	}
	return entered, errors.Join(errs...)
}

// listed tells whether somebody's are the same.
func listed(list []nft.Zoned, z nft.Zoned) bool { return slices.ContainsFunc(list, z.Same) }

// missing are those that are not in their zones, each once. It goes on after errors and joins them.
func (z *zones) missing(all []nft.Zoned) (out []nft.Zoned, err error) {
	byZone := map[string]map[string]nft.Zoned{}
	for _, a := range all {
		if byZone[a.Zone] == nil {
			byZone[a.Zone] = map[string]nft.Zoned{}
		}
		byZone[a.Zone][a.Source] = a
	}
	var errs []error
	for zone, sources := range byZone {
		missing, err := z.Missing(zone, slices.Sorted(maps.Keys(sources)))
		errs = append(errs, err)
		for _, m := range missing {
			out = append(out, sources[m])
		}
	}
	return out, errors.Join(errs...)
}

// own are the attachment's.
func own(r *roles.Request) ([]nft.Zoned, error) {
	all, err := netutil.NFT(r.Host).Zoned()
	mine, _ := split(all, r.Owner.LinkName())
	return mine, err
}

func checkZones(ctx context.Context, r *roles.Request) error {
	mine, err := own(r)
	if err != nil {
		return err
	}
	z, err := openZones(ctx, r.Host)
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }()
	missing, err := z.missing(mine)
	if err == nil && len(missing) > 0 {
		err = errcode.Errorf(errcode.Differs, "firewalld: %s is not in the zone %s", missing[0].Source, missing[0].Zone)
	}
	return err
}

// leaveZones takes out of their zones what the attachment has there and no other has.
func leaveZones(ctx context.Context, r *roles.Request) (mine []nft.Zoned, err error) {
	all, err := netutil.NFT(r.Host).Zoned()
	if err != nil {
		return nil, err
	}
	mine, others := split(all, r.Owner.LinkName())
	return mine, removeFromZones(ctx, r.Host, without(mine, others))
}

// without are those that are not among the others.
func without(list, others []nft.Zoned) []nft.Zoned {
	return slices.DeleteFunc(slices.Clone(list), func(z nft.Zoned) bool { return listed(others, z) })
}

// settleZones takes out of their zones what nobody has any longer: of what attachments shared, the last of several that go at once must know.
func settleZones(ctx context.Context, host *netutil.Namespace, before []nft.Zoned) error {
	after, err := netutil.NFT(host).Zoned()
	if err != nil {
		return err
	}
	return removeFromZones(ctx, host, without(before, after))
}

// removeFromZones takes sources out of their zones. If firewalld does not run, they are in none.
func removeFromZones(ctx context.Context, host *netutil.Namespace, gone []nft.Zoned) error {
	if len(gone) == 0 {
		return nil
	}
	z, err := openZones(ctx, host)
	if firewalld.Absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = z.Close() }()
	var errs []error
	for _, g := range gone {
		errs = append(errs, z.Remove(g.Zone, g.Source))
	}
	return errors.Join(errs...)
}

// syncZones puts those addresses of containers into their zones of firewalld that are not there, as after a reload, and returns them.
func syncZones(ctx context.Context, host *netutil.Namespace) (restored []nft.Zoned, err error) {
	all, err := netutil.NFT(host).Zoned()
	if err != nil || len(all) == 0 {
		return nil, err
	}
	z, err := openZones(ctx, host)
	if err != nil {
		return nil, err
	}
	defer func() { _ = z.Close() }()
	return z.put(all)
}
