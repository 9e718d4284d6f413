package gc

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// This file reads what runtimes and plugins keep of attachments for their DEL.

// cached is what the CNI library keeps of an attachment (libcni, "cniCacheV1"), as far as DEL needs it.
type cached struct {
	Kind         string          `json:"kind"`
	ContainerID  string          `json:"containerId"`
	Config       []byte          `json:"config"`
	IfName       string          `json:"ifName"`
	Network      string          `json:"networkName"`
	Args         [][2]string     `json:"cniArgs"`
	Capabilities json.RawMessage `json:"capabilityArgs"`
	Result       json.RawMessage `json:"result"`

	path string
}

// mostFile bounds what is read of a file here, in bytes.
const mostFile = 2 << 20

// eachFile calls visit with the files of a folder: path, text, and when it was written. What cannot be read is passed over: it is nobody's.
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

// caches reads what the runtime's CNI library remembers. What has come since the snapshot is passed over.
func (f *finder) caches() error {
	var errs []error
	for _, dir := range cacheDirs() {
		errs = append(errs, eachFile(dir, f.cacheFile))
	}
	return errors.Join(errs...)
}

func (f *finder) cacheFile(path string, text []byte, since time.Time) {
	c := &cached{path: path}
	if json.Unmarshal(text, c) != nil {
		return
	}
	a := f.byOwner[owner.Owner{Network: c.Network, ContainerID: c.ContainerID, IfName: c.IfName}]
	if a == nil || !a.Cached() {
		return
	}
	a.add("cached result", filepath.Base(path))
	a.written(since)
	a.cache = c
}

// records finds what the plugins tuning and flannel keep.
func (f *finder) records() error {
	note := func(o owner.Owner, plugin, path string, since time.Time) {
		a := f.of(o)
		a.add("record", plugin)
		a.written(since)
		a.files = append(a.files, path)
	}
	err := eachFile(tuningDir, func(path string, text []byte, since time.Time) {
		var s struct{ Network, ContainerID, IfName string }
		if json.Unmarshal(text, &s) == nil && s.Network != "" && s.ContainerID != "" {
			note(owner.Owner{Network: s.Network, ContainerID: s.ContainerID, IfName: s.IfName}, "tuning", path, since)
		}
	})
	return errors.Join(err, eachFile(flannelDir, func(path string, text []byte, since time.Time) {
		var s struct {
			Name   string `json:"name"`
			IfName string `json:"cni.dev/cnibox-ifname"`
		}
		if json.Unmarshal(text, &s) == nil && s.Name != "" && s.IfName != "" {
			id := strings.TrimSuffix(filepath.Base(path), "_"+s.IfName)
			note(owner.Owner{Network: s.Name, ContainerID: id, IfName: s.IfName}, "flannel", path, since)
		}
	}))
}

// users finds who needs an overlay's tunnel. They are known by their links' names alone.
func (f *finder) users() error {
	networks, err := overlay.Networks(overlay.DefaultState)
	errs := []error{err}
	for _, network := range networks {
		users, err := overlay.OpenStore(overlay.DefaultState, overlay.DefaultRun, network).Users()
		errs = append(errs, err)
		known := map[string]bool{}
		for _, link := range users {
			known[link] = true
		}
		for _, a := range f.all {
			if a.Network == network && known[a.Owner().LinkName()] {
				a.add("user of the tunnel", network)
				a.overlays = append(a.overlays, network)
			}
		}
	}
	return errors.Join(errs...)
}
