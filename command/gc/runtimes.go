package gc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// runtime tells where a container runtime keeps what. Nothing is asked of the runtime itself: each sandbox that it has, running or not, has a
// folder or a file, which goes when it is removed and so after the DEL. docs/gc.md names what is relied on.
type runtime struct {
	name    string
	state   []string // folders of which one is there wherever the runtime has been started since the machine has
	folders []string // patterns (filepath.Match) of folders that are named by container IDs
	lists   []string // patterns of files that list containers in JSON
	nested  bool     // the folder above is a namespace of the runtime's, which nerdctl puts in front of the ID
}

// runtimes are those that are known.
func runtimes() []runtime {
	storage := []string{"/var/lib/containers/storage", "/run/containers/storage"}
	var folders, lists []string
	for _, dir := range storage {
		folders = append(folders, dir+"/*-containers/*")
	}
	for _, name := range []string{"containers.json", "volatile-containers.json"} {
		lists = append(lists, storage[0]+"/*-containers/"+name, storage[1]+"/*-containers/"+name)
	}
	return []runtime{
		{
			name: "containerd", nested: true,
			state: []string{"/run/containerd", "/run/k3s/containerd"},
			folders: []string{
				"/run/containerd/io.containerd.runtime.v*.task/*/*", "/run/k3s/containerd/io.containerd.runtime.v*.task/*/*",
				"/run/containerd/io.containerd.grpc.v1.cri/sandboxes/*", "/run/k3s/containerd/io.containerd.grpc.v1.cri/sandboxes/*",
				"/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/*", "/var/lib/rancher/*/agent/containerd/io.containerd.grpc.v1.cri/sandboxes/*",
			},
		},
		{name: "crio", state: []string{"/run/crio", "/var/run/crio"}, folders: folders, lists: lists},
		{name: "podman", state: storage, folders: folders, lists: lists},
		{name: "docker", state: []string{"/var/lib/docker"}, folders: []string{"/var/lib/docker/containers/*"}},
	}
}

// RuntimeNames are what --runtime takes.
func RuntimeNames() (names []string) {
	for _, r := range runtimes() {
		names = append(names, r.name)
	}
	return names
}

// FromRuntime lists the sandboxes that a runtime has.
func FromRuntime(name string) (*Living, error) {
	for _, r := range runtimes() {
		if r.name != name {
			continue
		}
		if !r.present() {
			return nil, fmt.Errorf("%s has not been here: there is no folder %s; --from takes a list of its sandboxes", name, strings.Join(r.state, " or "))
		}
		l := NewLiving(name)
		return l, r.list(l)
	}
	return nil, ui.Usagef("--runtime %s: not known; there are %s", name, strings.Join(RuntimeNames(), ", "))
}

// FromAll lists the sandboxes of all runtimes that have been here; nil if there are none.
func FromAll() (*Living, error) {
	var names []string
	l := NewLiving("")
	var errs []error
	for _, r := range runtimes() {
		if r.present() {
			names = append(names, r.name)
			errs = append(errs, r.list(l))
		}
	}
	if names == nil {
		return nil, nil
	}
	l.Of = strings.Join(names, ", ")
	return l, errors.Join(errs...)
}

func (r *runtime) present() bool {
	for _, dir := range r.state {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return true
		}
	}
	return false
}

// list adds what the runtime has. What cannot be read is an error: who is in it would be taken for dead.
func (r *runtime) list(l *Living) error {
	for _, pattern := range r.folders {
		parents, err := filepath.Glob(filepath.Dir(pattern))
		if err != nil {
			return err
		}
		for _, parent := range parents {
			entries, err := os.ReadDir(parent)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			for _, e := range entries {
				l.add(e.Name(), "")
				if r.nested {
					l.add(filepath.Base(parent)+"-"+e.Name(), "")
				}
			}
		}
	}
	for _, pattern := range r.lists {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := readStorage(l, file); err != nil {
				return err
			}
		}
	}
	return nil
}

// readStorage reads a list of containers/storage.
func readStorage(l *Living, path string) error {
	file, err := plainfile.Open(path, mostList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	text, err := plainfile.Text(file, mostList)
	if err != nil {
		return err
	}
	var containers []struct {
		ID string `json:"id"`
	}
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, &containers); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, c := range containers {
		l.add(c.ID, "")
	}
	return nil
}
