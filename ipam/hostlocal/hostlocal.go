// Package hostlocal is the ipam role host-local: it gives out the addresses of ranges, and keeps on the node's disk who has
// which.
package hostlocal

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

type role struct{}

// New is the role.
func New() roles.Role { return role{} }

// Add reserves an address of each range set: all of them, or none.
func (role) Add(_ context.Context, r *roles.Request) (*types100.Result, error) {
	c, err := load(r)
	if err != nil {
		return nil, err
	}
	asked, err := c.asked.requests(r.Args)
	if err != nil {
		return nil, err
	}
	sets, err := assign(c.sets, asked)
	if err != nil {
		return nil, err
	}
	result := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, Routes: c.routes}
	if c.resolvConf != "" {
		if result.DNS, err = readResolvConf(c.resolvConf); err != nil {
			return nil, err
		}
	}
	s, err := store.New(c.dataDir, r.Owner.Network)
	if err != nil {
		return nil, err
	}
	addrs, err := s.Acquire(holder(r), sets)
	if errcode.Of(err) == errcode.Storage {
		err = fmt.Errorf("ipam.dataDir: %w", err)
	}
	if err != nil {
		return nil, err
	}
	r.Undo.Push("reserved addresses", func() error {
		_, err := s.Release(holder(r))
		return err
	})
	for i, addr := range addrs {
		p := poolOf(c.sets[i], addr)
		result.IPs = append(result.IPs, &types100.IPConfig{
			Address: *roles.IPNet(netip.PrefixFrom(addr, p.subnet.Bits())),
			Gateway: p.gateway.AsSlice(),
		})
	}
	return result, nil
}

// Check wants an address of each range set to be reserved for the attachment, and those of the previous result to be among them.
func (role) Check(_ context.Context, r *roles.Request) error {
	c, s, err := loadWithStore(r)
	if err != nil {
		return err
	}
	held, err := s.Held(holder(r))
	if err != nil {
		return err
	}
	for i, set := range storeSets(c.sets) {
		if !slices.ContainsFunc(held, set.Contains) {
			return errcode.Errorf(errcode.Differs, "%s has no address of range set %d (%s)", r.Owner, i, set)
		}
		if r.Prev == nil {
			continue
		}
		for _, ip := range r.Prev.IPs {
			addr, _ := netip.AddrFromSlice(ip.Address.IP)
			if addr = addr.Unmap(); set.Contains(addr) && !slices.Contains(held, addr) {
				return errcode.Errorf(errcode.Differs, "%s is not reserved for %s", addr, r.Owner)
			}
		}
	}
	return nil
}

// Del gives back all addresses of the attachment. It reads of the configuration no more than where they are kept.
func (role) Del(_ context.Context, r *roles.Request) error {
	s, err := open(r)
	if err != nil {
		return err
	}
	_, err = s.Release(holder(r))
	return err
}

// GC gives back what belongs to no valid attachment.
func (role) GC(_ context.Context, r *roles.Request, valid []roles.Attachment) error {
	s, err := open(r)
	if err != nil {
		return err
	}
	holders := make([]store.Holder, len(valid))
	for i, v := range valid {
		holders[i] = store.Holder(v)
	}
	_, err = s.Retain(holders)
	return err
}

// Status tells whether each range set has an address left, and whether it could be reserved.
func (role) Status(_ context.Context, r *roles.Request) error {
	c, s, err := loadWithStore(r)
	if err != nil {
		return err
	}
	if err := s.Writable(); err != nil {
		return errcode.Errorf(errcode.NotAvailable, "no address can be reserved: %s", err)
	}
	sets := storeSets(c.sets)
	usage, err := s.Usage(sets)
	if err != nil { // whose own code would be reported instead
		return errcode.Errorf(errcode.NotAvailable, "no address can be reserved: %s", err)
	}
	var full []string
	for i, u := range usage {
		if u.Exhausted {
			full = append(full, fmt.Sprintf("range set %d (%s) is exhausted: %d of its %d addresses are reserved", i, sets[i], u.Reserved, u.Size))
		}
	}
	if len(full) > 0 {
		return errcode.Errorf(errcode.NotAvailable, "network %s: %s", r.Owner.Network, strings.Join(full, "; "))
	}
	return nil
}

// open is the network's store, for calls that must work with any configuration.
func open(r *roles.Request) (*store.Store, error) {
	var p place
	if err := roles.Decode(r.Conf, &p, true); err != nil {
		return nil, err
	}
	return store.New(p.IPAM.DataDir, r.Owner.Network)
}

// loadWithStore is what CHECK and STATUS start from.
func loadWithStore(r *roles.Request) (*config, *store.Store, error) {
	c, err := load(r)
	if err != nil {
		return nil, nil, err
	}
	s, err := store.New(c.dataDir, r.Owner.Network)
	return c, s, err
}

func holder(r *roles.Request) store.Holder {
	return store.Holder{ContainerID: r.Owner.ContainerID, IfName: r.Owner.IfName}
}

func (role) Conf() any { return &conf{} }

func (role) CheckConf(r *roles.Request) error {
	_, err := load(r)
	return err
}
