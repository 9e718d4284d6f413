package node

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/ipam/store"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
)

// This file reads what runtimes and plugins keep of attachments on disk.

// cached is a result as libcni keeps it.
type cached struct {
	Kind           string      `json:"kind"`
	ContainerID    string      `json:"containerId"`
	Config         []byte      `json:"config"`
	IfName         string      `json:"ifName"`
	NetworkName    string      `json:"networkName"`
	NetNS          string      `json:"netns"`
	CNIArgs        [][2]string `json:"cniArgs"`
	CapabilityArgs struct {
		PortMappings []portMapping `json:"portMappings"`
	} `json:"capabilityArgs"`
	Result result `json:"result"`
}

// result is one of the versions from 0.3.0 on; what older ones have is not read.
type result struct {
	Interfaces []struct {
		Name    string `json:"name"`
		Sandbox string `json:"sandbox"`
	} `json:"interfaces"`
	IPs []struct {
		Address   string `json:"address"`
		Interface *int   `json:"interface"`
	} `json:"ips"`
}

type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

// cacheKind is what libcni marks its files with.
const cacheKind = "cniCacheV1"

// parseCached reads a file of libcni's; nil if it is none.
func parseCached(text []byte) *cached {
	c := &cached{}
	err := json.Unmarshal(text, c)
	// A value of an unexpected type leaves the rest as it is.
	if _, isType := err.(*json.UnmarshalTypeError); err != nil && !isType { //nolint:errorlint // encoding/json returns it as it is
		return nil
	}
	if c.Kind != cacheKind || c.ContainerID == "" || c.NetworkName == "" || c.IfName == "" {
		return nil
	}
	return c
}

// readCaches takes over what libcni keeps, and returns the paths of sandboxes.
func (r *reader) readCaches() (paths []string) {
	for _, dir := range r.Caches {
		files, _ := os.ReadDir(dir)
		for _, f := range files {
			text, err := readFile(filepath.Join(dir, f.Name()))
			if err != nil {
				continue // deleted meanwhile, or no file
			}
			c := parseCached(text)
			if c == nil {
				continue
			}
			name, conf := parseConf(c.Config)
			if conf.main() == "loopback" { // every container has one, and nothing of it is the node's
				continue
			}
			a := r.of(owner.Owner{Network: c.NetworkName, ContainerID: c.ContainerID, IfName: c.IfName})
			a.take(c)
			if info, err := f.Info(); err == nil {
				a.since(info.ModTime())
			}
			if conf != nil {
				r.confs[name] = conf // what an attachment was made by comes before what the next one will be made by
				r.addStore(conf)
				a.sources.conf = conf
			}
			paths = append(paths, a.sources.netns...)
		}
	}
	return paths
}

// take takes over what a cached result tells.
func (a *Attachment) take(c *cached) {
	a.sources.cache = true
	a.sandboxAt(c.NetNS)
	var podNamespace, podName string
	for _, arg := range c.CNIArgs {
		switch arg[0] {
		case "K8S_POD_NAMESPACE":
			podNamespace = arg[1]
		case "K8S_POD_NAME":
			podName = arg[1]
		}
	}
	if podName != "" {
		a.Pod = strings.TrimPrefix(podNamespace+"/"+podName, "/")
	}
	for _, ip := range c.Result.IPs {
		p, err := netip.ParsePrefix(ip.Address)
		if err != nil {
			continue
		}
		if at := ip.Interface; at != nil && (*at < 0 || *at >= len(c.Result.Interfaces) || c.Result.Interfaces[*at].Name != a.IfName) {
			continue
		}
		a.Result = append(a.Result, p)
	}
	for _, l := range c.Result.Interfaces {
		if l.Sandbox != "" {
			a.sandboxAt(l.Sandbox)
		} else {
			a.sources.hostLinks = append(a.sources.hostLinks, l.Name)
		}
	}
	a.sources.asked = c.CapabilityArgs.PortMappings
}

// sandboxAt notes a path of the sandbox.
func (a *Attachment) sandboxAt(path string) {
	if path == "" {
		return
	}
	if !slices.Contains(a.sources.netns, path) {
		a.sources.netns = append(a.sources.netns, path)
	}
}

// since keeps the earliest time at which something of the attachment was there.
func (a *Attachment) since(t time.Time) {
	if !t.IsZero() && (a.Since.IsZero() || t.Before(a.Since)) {
		a.Since = t
	}
}

// readStores takes over host-local's reservations.
func (r *reader) readStores() {
	for _, dir := range r.Stores {
		all, err := store.List(dir)
		r.problem("addresses", err)
		for _, l := range all {
			if l.Holder.ContainerID == "" {
				r.finding(Finding{Orphan, fmt.Sprintf("address %s of the network %s is reserved for nobody", l.Addr, l.Network), fixGC})
				continue
			}
			a := r.holderOf(l)
			a.Reserved = append(a.Reserved, l.Addr)
			a.since(l.Since)
		}
	}
}

// holderOf is the attachment that has a reservation. Old versions of the reference plugin wrote no interface name.
func (r *reader) holderOf(l *store.Listed) *Attachment {
	o := owner.Owner{Network: l.Network, ContainerID: l.Holder.ContainerID, IfName: l.Holder.IfName}
	if o.IfName == "" {
		for _, a := range r.node.Attachments {
			if a.Network == o.Network && a.ContainerID == o.ContainerID {
				return a
			}
		}
	}
	return r.of(o)
}

// lease is one of the dhcp daemon's files.
type lease struct {
	Owner owner.Owner `json:"owner"`
	Netns string      `json:"netns"`
}

// readLeases takes over the dhcp daemon's leases, and returns the paths of sandboxes.
func (r *reader) readLeases() (paths []string) {
	folder := record.Folder(r.Leases)
	names, err := folder.Names(".json")
	r.problem("leases", err)
	for _, name := range names {
		text, err := folder.Read(name)
		var l lease
		if err != nil || json.Unmarshal(text, &l) != nil || l.Owner.ContainerID == "" {
			continue
		}
		a := r.of(l.Owner)
		a.Leased = true
		a.sandboxAt(l.Netns)
		paths = append(paths, a.sources.netns...)
	}
	return paths
}

// readTuning notes of which attachments the role tuning, or the reference's plugin, keeps a record.
func (r *reader) readTuning() {
	names, err := record.Folder(r.Tuning).Names(".json")
	r.problem("records of tuning", err)
	for _, name := range names {
		r.tuned[name] = true
	}
}
