package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// archive writes the archive of an executable. Unpacked in a folder of plugins, it is a farm: the executable, a symlink for each plugin, and
// beside them a folder share, which can be left out.
func (r *release) archive(p program, docs tree) error {
	t := tree{}
	t.add("share", docs)
	for name, f := range t {
		if strings.HasPrefix(name, "share/"+unitFolder+"/") { // /usr/bin is the packages'
			f.data = []byte(strings.ReplaceAll(string(f.data), "/usr/bin/cnibox", "/opt/cni/bin/cnibox"))
			t[name] = f
		}
	}
	executable, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	t["cnibox"] = file{data: executable, mode: 0o755}
	for _, name := range r.roles {
		if name != "cnibox" {
			t[name] = file{target: "cnibox"}
		}
	}
	t["README.md"] = t[path.Join("share", docFolder, "README.md")]
	if t["LICENSE"], err = readFile("LICENSE"); err != nil {
		return err
	}
	t["LICENSE.third-party"] = text(thirdParty(p.modules))
	data, err := t.tarGz(r.time)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.out, "cnibox-"+r.version+"-linux-"+p.arch.name+".tar.gz"), data, 0o644)
}

func readFile(name string) (file, error) {
	data, err := os.ReadFile(name)
	return file{data: data, mode: 0o644}, err
}

// askRoles returns the names of the plugins, as the executable of this machine tells them.
func (r *release) askRoles() ([]string, error) {
	out, err := exec.Command(r.here(), "roles", "--output", "json").Output()
	if err != nil {
		return nil, err
	}
	var roles []struct {
		Name string `json:"name"`
	}
	if err := json.Unmarshal(out, &roles); err != nil {
		return nil, err
	}
	var names []string
	for _, role := range roles {
		names = append(names, role.Name)
	}
	return names, nil
}
