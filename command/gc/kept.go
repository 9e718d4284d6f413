package gc

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/hostlocal"
	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// This file finds attachments by what runtimes and plugins keep of them in files.

// cached is what the CNI library keeps of an attachment (libcni, "cniCacheV1").
type cached struct {
	Kind         string          `json:"kind"`
	ContainerID  string          `json:"containerId"`
	Config       []byte          `json:"config"`
	IfName       string          `json:"ifName"`
	Network      string          `json:"networkName"`
	NetNS        string          `json:"netns"`
	Args         [][2]string     `json:"cniArgs"`
	Capabilities json.RawMessage `json:"capabilityArgs"`
	Result       json.RawMessage `json:"result"`

	path string
}

// mostFile bounds what is read of a file here, in bytes.
const mostFile = 2 << 20

// eachFile calls visit with the files of a folder: name, text, and when it was written. What cannot be read is passed over: it is nobody's.
func eachFile(dir string, visit func(path string, text []byte, since time.Time)) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || !e.Type().IsRegular() {
			continue
		}
		path := filepath.Join(dir, e.Name())
		file, err := plainfile.OpenNoLink(path, mostFile)
		if err != nil {
			continue
		}
		info, err := file.Stat()
		text, readErr := plainfile.Text(file, mostFile)
		if err == nil && readErr == nil {
			visit(path, text, info.ModTime())
		}
	}
	return nil
}

// caches finds what the runtime's CNI library remembers.
func (f *finder) caches() error {
	return eachFile(f.CacheDir, func(path string, text []byte, since time.Time) {
		c := &cached{path: path}
		if json.Unmarshal(text, c) != nil || c.Kind != "cniCacheV1" || c.ContainerID == "" || c.IfName == "" || c.Network == "" {
			return
		}
		a := f.of(owner.Owner{Network: c.Network, ContainerID: c.ContainerID, IfName: c.IfName})
		a.add("cached result", filepath.Base(path), since)
		a.cache = c
	})
}

// leased finds what the dhcp daemon has.
func (f *finder) leased() error {
	leases, err := daemon.Leases(f.LeaseDir)
	for _, l := range leases {
		a := f.of(l.Owner)
		name := "none"
		if l.Addr.IsValid() {
			name = l.Addr.Addr().String()
			a.addrs = append(a.addrs, l.Addr.Addr())
		}
		// Each renewal writes the file, so it does not tell how old the attachment is.
		a.add("lease", name, time.Time{})
		a.leases = true
	}
	return err
}

// records finds what the plugins tuning and flannel keep for DEL.
func (f *finder) records() error {
	err := eachFile(tuningDir, func(path string, text []byte, since time.Time) {
		var s struct{ Network, ContainerID, IfName string }
		if json.Unmarshal(text, &s) == nil && s.Network != "" && s.ContainerID != "" {
			a := f.of(owner.Owner{Network: s.Network, ContainerID: s.ContainerID, IfName: s.IfName})
			a.add("record", "tuning", since)
			a.files = append(a.files, path)
		}
	})
	return errors.Join(err, eachFile(flannelDir, func(path string, text []byte, since time.Time) {
		var s struct {
			Name   string `json:"name"`
			IfName string `json:"cni.dev/cnibox-ifname"`
		}
		if json.Unmarshal(text, &s) == nil && s.Name != "" && s.IfName != "" {
			id := strings.TrimSuffix(filepath.Base(path), "_"+s.IfName)
			a := f.of(owner.Owner{Network: s.Name, ContainerID: id, IfName: s.IfName})
			a.add("record", "flannel", since)
			a.files = append(a.files, path)
		}
	}))
}

// users finds who needs an overlay's tunnel. They are known by their links' names alone.
func (f *finder) users() error {
	all, err := overlay.Networks(overlay.DefaultState)
	errs := []error{err}
	for _, network := range all {
		users, err := overlay.OpenStore(overlay.DefaultState, overlay.DefaultRun, network).Users()
		errs = append(errs, err)
		for _, link := range users {
			if a := f.byLink[link]; a != nil {
				a.add("user of the tunnel", network, time.Time{})
				a.overlays = append(a.overlays, network)
			}
		}
	}
	return errors.Join(errs...)
}

// dataDirs are the folders of host-local that a network names.
func dataDirs(n *networks.Network) (dirs []string) {
	for _, p := range n.Plugins {
		if dir, _, _ := hostlocal.Pools(p.Conf); dir != "" {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
