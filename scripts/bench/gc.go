package main

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/containernetworking/cni/libcni"
)

// collect measures how pods go that nobody knows any more: all by one GC, and one DEL after the other. Only cnibox implements GC.
func (b *bench) collect(ctx context.Context, name string) error {
	at := slices.IndexFunc(b.contenders, func(c contender) bool { return c.name == cnibox })
	if at < 0 {
		return nil
	}
	stale := pick(b.quick, 100, 1000)
	for range max(1, b.rounds/8) {
		for _, way := range []struct {
			operation string
			measure   func(context.Context, *host) (sample, error)
		}{{"GC", gcAll}, {"DEL of all", delAll}} {
			s, err := b.withStale(ctx, b.contenders[at], name, stale, way.measure)
			if err != nil {
				return err
			}
			b.report.add(key{name, stale, 1, way.operation, cnibox}, s)
		}
	}
	return nil
}

func (b *bench) withStale(
	ctx context.Context, c contender, name string, stale int, measure func(context.Context, *host) (sample, error),
) (s sample, err error) {
	h, err := b.newHost(c, network{name: name, main: "bridge", v4: true, masq: true})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, h.close(), settle()) }()
	if err := h.grow(ctx, stale); err != nil {
		return s, err
	}
	h.progress("%d stale attachments", stale)
	return measure(ctx, h)
}

// gcAll calls GC with no valid attachments. The runtime's cache is lost, or libcni itself would call DEL for all that is in it.
func gcAll(ctx context.Context, h *host) (sample, error) {
	if err := os.RemoveAll(h.cache); err != nil {
		return sample{}, err
	}
	list := *h.conf
	list.CNIVersion = "1.1.0" // which GC came with
	return h.timedOn(func() error { return h.cni.GCNetworkList(ctx, &list, &libcni.GCArgs{}) })
}

func delAll(ctx context.Context, h *host) (sample, error) {
	return h.timedOn(func() error {
		for _, p := range h.pods {
			if err := errors.Join(ctx.Err(), h.del(ctx, p)); err != nil {
				return err
			}
		}
		return nil
	})
}
