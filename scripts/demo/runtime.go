package main

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// runtime is a container runtime's part: libcni with its cache.
type runtime struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

const cacheDir = "/var/lib/cni-cache"

// newRuntime has the given configurations as a list, of which not a byte is changed.
func newRuntime(farm string, confs ...[]byte) (*runtime, error) {
	r := &runtime{cni: libcni.NewCNIConfigWithCacheDir([]string{farm}, cacheDir, nil), list: &libcni.NetworkConfigList{}}
	for _, conf := range confs {
		plugin, err := libcni.NetworkPluginConfFromBytes(conf)
		if err != nil {
			return nil, err
		}
		r.list.Plugins = append(r.list.Plugins, plugin)
	}
	first := r.list.Plugins[0].Network
	r.list.Name, r.list.CNIVersion = first.Name, first.CNIVersion
	return r, nil
}

func (r *runtime) add(ctx context.Context, p *pod) error {
	raw, err := r.cni.AddNetworkList(ctx, r.list, p.conf())
	if err != nil {
		return err
	}
	result, err := types100.NewResultFromResult(raw)
	if err != nil {
		return err
	}
	if len(result.IPs) == 0 {
		return errors.New("the result has no address")
	}
	p.addrs = nil
	for _, ip := range result.IPs {
		p.addrs = append(p.addrs, ip.Address.IP.String())
	}
	return nil
}

func (r *runtime) check(ctx context.Context, p *pod) error {
	return r.cni.CheckNetworkList(ctx, r.list, p.conf())
}

func (r *runtime) del(ctx context.Context, p *pod) error {
	return r.cni.DelNetworkList(ctx, r.list, p.conf())
}
