package main

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Where documents of each kind are, below a folder that is called share.
const (
	docFolder  = "doc/cnibox"
	manFolder  = "man"
	unitFolder = "systemd"
)

// completions are the files that shells look for, below share.
var completions = map[string]string{
	"bash": "bash-completion/completions/cnibox",
	"fish": "fish/vendor_completions.d/cnibox.fish",
	"zsh":  "zsh/site-functions/_cnibox",
}

// documents is what goes with the executable of each architecture: pages, manual pages, completions, units and manifests.
func (r *release) documents() (tree, error) {
	docs := tree{}
	for _, name := range []string{"README.md", "SECURITY.md"} {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		docs[path.Join(docFolder, name)] = file{data: data, mode: 0o644}
	}
	pages := func(rel string) bool { return filepath.Ext(rel) == ".md" || rel == "seccomp.json" }
	readmes := func(rel string) bool { return filepath.Base(rel) == "README.md" }
	for dir, wanted := range map[string]func(string) bool{"docs": pages, "roles": readmes, "ipam": readmes} {
		if err := docs.addFolder(path.Join(docFolder, dir), dir, wanted); err != nil {
			return nil, err
		}
	}
	all := func(string) bool { return true }
	if err := docs.addFolder(path.Join(docFolder, "kubernetes"), "packaging/kubernetes", all); err != nil {
		return nil, err
	}
	r.nameImage(docs)
	if err := docs.addFolder(unitFolder, "packaging/systemd", all); err != nil {
		return nil, err
	}
	if err := r.makeBuild(r.here()); err != nil {
		return nil, err
	}
	if err := r.manualPages(docs); err != nil {
		return nil, err
	}
	return docs, r.completions(docs)
}

// here is an executable for this machine, which tells what is the same for all.
func (r *release) here() string { return filepath.Join(r.work, "here") }

// nameImage has the manifests name the release's image.
func (r *release) nameImage(docs tree) {
	for name, f := range docs {
		if path.Ext(name) == ".yaml" {
			f.data = []byte(strings.ReplaceAll(string(f.data), imageName+":VERSION", imageName+":"+r.version))
			docs[name] = f
		}
	}
}

// manualPages adds the pages that the executable writes of itself.
func (r *release) manualPages(docs tree) error {
	dir := filepath.Join(r.work, "man")
	if out, err := exec.Command(r.here(), "man", "--dir", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("cnibox man: %w\n%s", err, out)
	}
	pages := tree{}
	if err := pages.addFolder("", dir, func(string) bool { return true }); err != nil {
		return err
	}
	for name, f := range pages {
		data, err := gzipped(f.data)
		if err != nil {
			return err
		}
		section := strings.TrimPrefix(path.Ext(name), ".")
		docs[path.Join(manFolder, "man"+section, name+".gz")] = file{data: data, mode: 0o644}
	}
	return nil
}

// completions adds what the executable has for shells.
func (r *release) completions(docs tree) error {
	for shell, name := range completions {
		out, err := exec.Command(r.here(), "completion", shell).Output()
		if err != nil {
			return fmt.Errorf("cnibox completion %s: %w", shell, err)
		}
		docs[name] = file{data: out, mode: 0o644}
	}
	return nil
}
