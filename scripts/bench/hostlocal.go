package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

// pool is a folder of reservations, and the host-local that works on it.
type pool struct {
	contender
	dir      string
	conf     []byte
	reserved int
	last     netip.Addr
}

func newPool(c contender, temp string) (*pool, error) {
	dir, err := os.MkdirTemp(temp, "pool-")
	if err != nil {
		return nil, err
	}
	conf, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "bench",
		"ipam": map[string]any{"type": "host-local", "dataDir": dir, "subnet": "10.0.0.0/8"},
	})
	if err != nil {
		return nil, err
	}
	p := &pool{contender: c, dir: filepath.Join(dir, "bench"), conf: conf, last: netip.MustParseAddr("10.0.0.1")}
	return p, os.Mkdir(p.dir, 0o755)
}

// fill writes reservations as the reference plugin does.
func (p *pool) fill(enough int) error {
	for ; p.reserved < enough; p.reserved++ {
		p.last = p.last.Next()
		text := fmt.Sprintf("%064x\r\neth0", p.reserved)
		if err := os.WriteFile(filepath.Join(p.dir, p.last.String()), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(p.dir, "last_reserved_ip.0"), []byte(p.last.String()), 0o600); err != nil {
		return err
	}
	unix.Sync() // or a plugin that syncs its own file pays for all of these
	return nil
}

func (p *pool) call(ctx context.Context, verb, netns string) error {
	return direct(ctx, filepath.Join(p.bin, "host-local"), p.conf,
		"CNI_COMMAND="+verb, "CNI_CONTAINERID=measured", "CNI_NETNS="+netns, "CNI_IFNAME=eth0")
}

// hostLocal measures host-local alone, without a runtime, by the number of reservations.
func (b *bench) hostLocal(ctx context.Context, name string) (err error) {
	netns := private.NetNS("pool")
	if err := nstest.Create(netns); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeNetNS(netns)) }()
	var pools []*pool
	for _, c := range b.contenders {
		if c.name != cnibox && c.name != reference {
			continue
		}
		p, err := newPool(c, b.temp)
		if err != nil {
			return err
		}
		pools = append(pools, p)
	}
	for _, reserved := range pick(b.quick, []int{0, 10_000}, []int{0, 1000, 10_000, 60_000}) {
		for _, p := range pools {
			b.say.show("%s, %s: %d reservations", name, p.name, reserved)
			if err := p.fill(reserved); err != nil {
				return err
			}
			// Files that a plugin did not write itself may cost it a first look, which is not what is measured.
			if err := errors.Join(p.call(ctx, "ADD", netns), p.call(ctx, "DEL", netns)); err != nil {
				return err
			}
		}
		if err := b.inPools(ctx, name, pools, netns); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) inPools(ctx context.Context, name string, pools []*pool, netns string) error {
	for range b.rounds {
		for _, p := range pools {
			for _, verb := range []string{"ADD", "DEL"} {
				s, err := timed(func() error { return p.call(ctx, verb, netns) })
				if err != nil {
					return err
				}
				b.report.add(key{name, p.reserved, 1, verb, p.name}, s)
			}
		}
	}
	return nil
}
