package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bench is one run.
type bench struct {
	options
	temp       string
	contenders []contender
	roles      map[string]bool
	report     *report
	say        *progress
}

func newBench(opts options, temp string) (*bench, error) {
	say := newProgress()
	b := &bench{options: opts, temp: temp, report: newReport(say), say: say}
	var err error
	if b.roles, err = ownRoles(filepath.Join(temp, cnibox, cnibox)); err != nil {
		return nil, err
	}
	b.contenders = slices.DeleteFunc(contenders(temp, b.roles), func(c contender) bool { return !opts.contenders.MatchString(c.name) })
	return b, nil
}

// run measures all cases that were asked for. A failure of a reference plugin ends its part of a case, and is noted; ours is an error.
func (b *bench) run(ctx context.Context) error {
	if err := b.one(ctx, "VERSION", b.version); err != nil {
		return err
	}
	for _, n := range networks() {
		if b.quick && !n.quick {
			continue
		}
		missing := n.within(b.roles)
		if len(missing) > 0 {
			b.report.note("%s: cnibox has no %s yet", n.name, strings.Join(missing, ", "))
		}
		if slices.Contains(missing, n.main) || len(missing) > 0 && len(n.chain) < 2 {
			continue // that is another case
		}
		if err := b.one(ctx, n.name, func(ctx context.Context, _ string) error { return b.network(ctx, n) }); err != nil {
			return err
		}
	}
	return errors.Join(
		b.one(ctx, "host-local", b.hostLocal),
		b.one(ctx, "GC", b.collect),
		b.one(ctx, "new connections", b.connections),
		b.one(ctx, tunnelCase, b.tunnel),
	)
}

// one measures a case, if it was asked for.
func (b *bench) one(ctx context.Context, name string, measure func(context.Context, string) error) error {
	if !b.cases.MatchString(name) || ctx.Err() != nil {
		return ctx.Err()
	}
	start := time.Now()
	if err := measure(ctx, name); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.say.done("%s: %.0f s", name, time.Since(start).Seconds())
	return nil
}

// network measures one case: at each number of existing pods one pod after the other, then some at once.
func (b *bench) network(ctx context.Context, n network) (err error) {
	var hosts []*host
	defer func() {
		for _, h := range hosts {
			err = errors.Join(err, h.close())
		}
		err = errors.Join(err, settle())
	}()
	for _, c := range b.contenders {
		if !n.has(c.name) {
			continue
		}
		h, err := b.newHost(c, n)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	turns := slices.Clone(hosts)
	for i, pods := range b.pods {
		if i > 0 && !n.scales {
			break
		}
		if turns, err = b.each(ctx, turns, func(h *host) error { return h.grow(ctx, pods) }); err != nil {
			return err
		}
		if turns, err = b.oneByOne(ctx, n, turns, pods); err != nil {
			return err
		}
		for _, crowd := range n.atOnce {
			if i > 0 || b.quick && crowd != slices.Max(n.atOnce) {
				continue
			}
			if turns, err = b.crowd(ctx, n, turns, pods, crowd); err != nil {
				return err
			}
		}
	}
	return nil
}

// each lets the hosts take a turn, and returns those that are still in the race.
func (b *bench) each(ctx context.Context, hosts []*host, turn func(*host) error) (left []*host, err error) {
	for _, h := range hosts {
		switch err := turn(h); {
		case err == nil:
			left = append(left, h)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case h.name == cnibox || h.name == cniboxFused || h.name == floor:
			return nil, fmt.Errorf("%s: %w", h.name, err)
		default:
			b.report.note("%s: %s drops out: %v", h.network.name, h.name, err)
		}
	}
	return left, nil
}

// verb is an operation on a pod.
type verb struct {
	name string
	do   func(context.Context, *pod) error
}

func (h *host) verbs() []verb {
	all := []verb{{"ADD", h.add}, {"CHECK", h.check}, {"DEL", h.del}}
	if h.name == floor {
		all = slices.Delete(all, 1, 2) // it has no CHECK
	}
	return all
}

// oneByOne attaches, checks and detaches one pod in each round, on each host in turn. Another host is first in each round.
func (b *bench) oneByOne(ctx context.Context, n network, hosts []*host, existing int) (left []*host, err error) {
	for round := range b.rounds {
		hosts, err = b.each(ctx, rotated(hosts), func(h *host) error {
			h.progress("%d pods, round %d of %d", existing, round+1, b.rounds)
			p, err := h.newPod()
			if err != nil {
				return err
			}
			for _, v := range h.verbs() {
				if err := ctx.Err(); err != nil {
					return err
				}
				s, err := h.timedOn(func() error { return v.do(ctx, p) })
				if err != nil {
					return fmt.Errorf("%s: %w", v.name, err)
				}
				b.report.add(key{n.name, existing, 1, v.name, h.name}, s)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return hosts, nil
}

// rotated puts another host first.
func rotated[T any](turns []T) []T {
	if len(turns) == 0 {
		return turns
	}
	return slices.Concat(turns[1:], turns[:1])
}

// crowd does the same with many pods at once. It takes fewer rounds, each of which has many operations.
func (b *bench) crowd(ctx context.Context, n network, hosts []*host, existing, crowd int) (left []*host, err error) {
	rounds := max(1, b.rounds/4)
	for round := range rounds {
		hosts, err = b.each(ctx, rotated(hosts), func(h *host) error {
			h.progress("%d at once, round %d of %d", crowd, round+1, rounds)
			pods := make([]*pod, crowd)
			for i := range pods {
				if pods[i], err = h.newPod(); err != nil {
					return err
				}
			}
			for _, v := range h.verbs() {
				if v.name == "CHECK" {
					continue
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				s, err := h.atOnce(ctx, pods, v.do)
				if err != nil {
					return fmt.Errorf("%d %s at once: %w", crowd, v.name, err)
				}
				b.report.add(key{n.name, existing, crowd, v.name, h.name}, s)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return hosts, nil
}
