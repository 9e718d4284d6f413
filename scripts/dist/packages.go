package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// packages makes the .deb and the .rpm, by nfpm in a folder that holds what packaging/nfpm.yaml names.
func (r *release) packages(p program, docs tree) error {
	stage, err := r.stage(p, docs)
	if err != nil {
		return err
	}
	version := packageVersion(r.version, r.time)
	for _, kind := range []struct{ packager, arch, name string }{
		{"deb", p.arch.deb, "cnibox_" + version + "_" + p.arch.deb + ".deb"},
		{"rpm", p.arch.rpm, "cnibox-" + version + "-1." + p.arch.rpm + ".rpm"},
	} {
		cmd := exec.Command(r.nfpm, "package", "--config", "packaging/nfpm.yaml", "--packager", kind.packager, "--target", filepath.Join(r.out, kind.name))
		cmd.Dir = stage
		cmd.Env = append(os.Environ(), "ARCH="+kind.arch, "PACKAGE_VERSION="+version, "SOURCE_DATE_EPOCH="+strconv.FormatInt(r.time.Unix(), 10), "TZ=UTC")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("nfpm: %w\n%s", err, out)
		}
	}
	return nil
}

// stage writes what is packaged to the disk: below share for all packages, below deb and rpm for those, as /usr/share.
func (r *release) stage(p program, docs tree) (dir string, err error) {
	executable, err := os.ReadFile(p.path)
	if err != nil {
		return "", err
	}
	licence, err := readFile("LICENSE")
	if err != nil {
		return "", err
	}
	entry := fmt.Sprintf("cnibox (%s) stable; urgency=medium\n\n  * https://%s\n\n -- %s  %s\n",
		packageVersion(r.version, r.time), project, maintainer, r.time.Format(time.RFC1123Z))
	changelog, err := gzipped([]byte(entry))
	if err != nil {
		return "", err
	}
	t := tree{
		"cnibox": {data: executable, mode: 0o755},
		"share/" + docFolder + "/LICENSE.third-party": text(thirdParty(p.modules)),
		"deb/lintian/overrides/cnibox":                text(lintianOverrides),
		"deb/" + docFolder + "/copyright":             text(copyrightFile),
		"deb/" + docFolder + "/changelog.gz":          {data: changelog, mode: 0o644},
		"rpm/licenses/cnibox/LICENSE":                 licence,
	}
	for name, f := range docs {
		switch {
		case strings.HasPrefix(name, unitFolder+"/"):
			t[name] = f
		case name == completions["zsh"]: // Debian's zsh does not look there
			t["deb/zsh/vendor-completions/_cnibox"], t["rpm/"+name] = f, f
		default:
			t["share/"+name] = f
		}
	}
	if err := t.addFolder("packaging", "packaging", func(string) bool { return true }); err != nil {
		return "", err
	}
	dir = filepath.Join(r.work, p.arch.name, "stage")
	return dir, t.writeTo(dir, r.time)
}

const maintainer = "The cnibox maintainers <maintainers@users.noreply.github.com>"

// lintianOverrides say why the package is not as Debian's own are.
const lintianOverrides = `# One static executable is the point: it works in a root that holds nothing else.
cnibox: statically-linked-binary [usr/bin/cnibox]
`

const copyrightFile = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: cnibox
Source: https://github.com/cnibox/cnibox
Comment: What the executable contains of others is in LICENSE.third-party, beside this file.

Files: *
Copyright: (c) the cnibox authors
License: Apache-2.0
 On Debian systems the full text of the Apache License, version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
`

var (
	tagged = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)(?:-((?:alpha|beta|rc)[.\d]*))?(?:-(\d+)-g([0-9a-f]+))?(-dirty)?$`)
	bare   = regexp.MustCompile(`^([0-9a-f]{7,40})(-dirty)?$`)
)

// packageVersion is what `git describe` says, in the order that dpkg and rpm have: v1.2.0-rc.1 is 1.2.0~rc.1 and comes before 1.2.0, v1.2.0-5-gabc is
// 1.2.0+5.gabc and comes after it. Without a tag, commits follow each other by their day.
func packageVersion(version string, at time.Time) string {
	if m := tagged.FindStringSubmatch(version); m != nil {
		out := m[1]
		if m[2] != "" {
			out += "~" + m[2]
		}
		if m[3] != "" {
			out += "+" + m[3] + ".g" + m[4]
		}
		return out + strings.Replace(m[5], "-", "+", 1)
	}
	if m := bare.FindStringSubmatch(version); m != nil {
		return "0.0.0+" + at.Format("20060102.150405") + "." + m[1] + strings.Replace(m[2], "-", "+", 1)
	}
	return "0.0.0+" + strings.Map(func(r rune) rune {
		if r == '.' || r == '+' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '.'
	}, version)
}
