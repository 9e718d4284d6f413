package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The order of versions is that of dpkg and rpm: "~" comes before nothing, "+" after.
func TestPackageVersion(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 14, 58, 52, 0, time.UTC)
	for version, want := range map[string]string{
		"v1.2.3":                  "1.2.3",
		"v1.2.3-rc.1":             "1.2.3~rc.1",
		"v1.2.3-5-gabcdef0":       "1.2.3+5.gabcdef0",
		"v1.2.3-rc1-5-gabcdef0":   "1.2.3~rc1+5.gabcdef0",
		"v1.2.3-5-gabcdef0-dirty": "1.2.3+5.gabcdef0+dirty",
		"abcdef0":                 "0.0.0+20261130.145852.abcdef0",
		"abcdef0-dirty":           "0.0.0+20261130.145852.abcdef0+dirty",
		"devel":                   "0.0.0+devel",
		"a b_c":                   "0.0.0+a.b.c",
	} {
		if got := packageVersion(version, at); got != want {
			t.Errorf("%s: %s, want %s", version, got, want)
		}
	}
}

func TestChosenArches(t *testing.T) {
	t.Parallel()
	if all, err := chosenArches(""); err != nil || len(all) != 7 {
		t.Errorf("%v, %v", all, err)
	}
	if two, err := chosenArches("s390x amd64"); err != nil || len(two) != 2 || two[0].name != "s390x" {
		t.Errorf("%v, %v", two, err)
	}
	if _, err := chosenArches("amd64 vax"); err == nil {
		t.Error("it knows the architecture vax")
	}
}

// An archive depends on nothing but what is in it and the release's time: folders come before their files, all is root's.
func TestArchive(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	files := tree{"b/c/d": text("x"), "a": {target: "b"}, "b/x": {data: []byte("y"), mode: 0o755}, "b-1": text("")}
	first, err := files.tarGz(at)
	if err != nil {
		t.Fatal(err)
	}
	var raw bytes.Buffer
	if err := files.writeTar(&raw, at); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(&raw); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %s", h.Name, h.Mode, h.Linkname))
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || !h.ModTime.Equal(at) {
			t.Errorf("%s is of %d:%d, %q, %v", h.Name, h.Uid, h.Gid, h.Uname, h.ModTime)
		}
	}
	want := []string{"a 777 b", "b/ 755 ", "b-1 644 ", "b/c/ 755 ", "b/c/d 644 ", "b/x 755 "}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if second, err := files.tarGz(at); err != nil || !bytes.Equal(first, second) {
		t.Errorf("made again, it is another (%v)", err)
	}
}

// testRelease is a release of which this test's own executable is the program.
func testRelease(t *testing.T) (*release, program) {
	t.Helper()
	t.Chdir("../..")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := &release{version: "v1.2.3", time: time.Unix(1_700_000_000, 0).UTC(), out: t.TempDir(), work: t.TempDir()}
	p := program{arch: arches()[0], path: self}
	if p.modules, err = modulesOf(self); err != nil {
		t.Fatal(err)
	}
	return r, p
}

// Each module that is in the executable is in the bill with its version, a licence and, but for Go's library, its checksum.
func TestBill(t *testing.T) {
	r, p := testRelease(t)
	if err := r.bill(p, nil); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(r.out, "cnibox-v1.2.3-linux-amd64.spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	var doc spdxDocument
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{documentID: true}
	for _, pkg := range doc.Packages {
		if ids[pkg.ID] || pkg.Version == "" || pkg.LicenceConcluded == "" || len(pkg.References) != 1 {
			t.Errorf("incomplete: %+v", pkg)
		}
		ids[pkg.ID] = true
	}
	if !ids[ownID] || !ids["SPDXRef-"+golang] {
		t.Errorf("packages are missing: %v", ids)
	}
	for _, rel := range doc.Relationships {
		if !ids[rel.From] || !ids[rel.To] {
			t.Errorf("relationship of what is not there: %v", rel)
		}
	}
	if len(doc.Relationships) != len(doc.Packages) {
		t.Errorf("%d relationships of %d packages", len(doc.Relationships), len(doc.Packages))
	}
}

// The licences of all that this module needs are known, so that a new dependency does not stop a release.
func TestLicencesAreKnown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Apache License\n  Version 2.0, January 2004":                                   "Apache-2.0",
		"Redistribution and use in source\nand binary forms ... Neither the name of":    "BSD-3-Clause",
		"Redistribution and use in source and binary forms":                             "BSD-2-Clause",
		"Permission is hereby granted, free of charge,\nto any person obtaining a copy": "MIT",
		"All rights reserved.": "",
	} {
		if got := licenceOf(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := escaped("github.com/BurntSushi/toml"); got != "github.com/!burnt!sushi/toml" {
		t.Error(got)
	}
}

// Everything in the image is found from its index, under the checksum and with the size that are told there.
func TestImage(t *testing.T) {
	r, p := testRelease(t)
	i := &image{release: r}
	for _, a := range arches()[:2] {
		p.arch = a
		if err := i.add(p, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := i.write(); err != nil {
		t.Fatal(err)
	}
	files := readTar(t, filepath.Join(r.out, "cnibox-v1.2.3-oci.tar"))
	seen := map[string]bool{"oci-layout": true, "index.json": true}
	var follow func(d descriptor)
	follow = func(d descriptor) {
		name := "blobs/sha256/" + strings.TrimPrefix(d.Digest, "sha256:")
		data := files[name]
		if fmt.Sprintf("sha256:%x", sha256.Sum256(data)) != d.Digest || len(data) != d.Size {
			t.Errorf("%s of %d bytes is not what the archive holds", name, d.Size)
		}
		seen[name] = true
		if d.MediaType != indexType && d.MediaType != manifestType {
			return
		}
		var m manifest
		if err := json.Unmarshal(data, &m); err != nil {
			t.Error(err)
		}
		for _, next := range slices.Concat(m.Manifests, m.Layers) {
			follow(next)
		}
		if m.Config != nil {
			follow(*m.Config)
		}
	}
	var index manifest
	if err := json.Unmarshal(files["index.json"], &index); err != nil || len(index.Manifests) != 1 {
		t.Fatalf("%v, %v", index, err)
	}
	if name := index.Manifests[0].Annotations["io.containerd.image.name"]; name != imageName+":v1.2.3" {
		t.Errorf("containerd would call it %q", name)
	}
	follow(index.Manifests[0])
	for name := range files {
		if !seen[name] && !strings.HasSuffix(name, "/") {
			t.Errorf("%s is not referred to", name)
		}
	}
}

func readTar(t *testing.T, path string) map[string][]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	files := map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// The commands that maintainer scripts and units call are there, and the units' folders are those of the daemon.
func TestUnitsCallCommands(t *testing.T) {
	t.Parallel()
	units, err := filepath.Glob("../../packaging/systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("%q, %v", units, err)
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\nExecStart=/usr/bin/cnibox ") || !strings.Contains(string(text), "\nCapabilityBoundingSet=CAP_NET_ADMIN") {
			t.Errorf("%s: no command or no bounds", unit)
		}
		if strings.Contains(string(text), "\nType=oneshot\n") && !strings.Contains(string(text), "\nTimeoutStartSec=") {
			t.Errorf("%s: if it hangs its timer never comes again", unit)
		}
	}
}

// Maintainer scripts never fail, whatever systemd says, and put the plugins back where a removal was called off (dpkg's abort-remove).
func TestMaintainerScripts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ script, args, want string }{
		{"postinstall", "configure", "install --skip-foreign"},
		{"postinstall", "configure 1.0", "install --skip-foreign"},
		{"postinstall", "abort-remove", "install --skip-foreign"},
		{"postinstall", "abort-remove in-favour other 2.0", "install --skip-foreign"},
		{"postinstall", "abort-upgrade 2.0", ""},
		{"postinstall", "abort-deconfigure in-favour other 2.0", ""},
		{"postinstall", "1", "install --skip-foreign"},
		{"postinstall", "2", "install --skip-foreign"},
		{"preremove", "remove", "uninstall"},
		{"preremove", "remove in-favour other 2.0", "uninstall"},
		{"preremove", "upgrade 2.0", ""},
		{"preremove", "failed-upgrade 1.0", ""},
		{"preremove", "deconfigure in-favour other 2.0", ""},
		{"preremove", "0", "uninstall"},
		{"preremove", "1", ""},
		{"postremove", "remove", ""},
		{"postremove", "purge", ""},
		{"postremove", "upgrade 2.0", ""},
		{"postremove", "abort-install", ""},
		{"postremove", "disappear", ""},
		{"postremove", "0", ""},
		{"postremove", "1", ""},
	} {
		t.Run(tt.script+" "+tt.args, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("../../packaging/scripts/" + tt.script)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			// Everything fails after it has said that it was called, and systemd runs.
			for _, name := range []string{"cnibox", "systemctl"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho \"$@\" >>"+dir+"/"+name+".called\nexit 1\n"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			moved := strings.NewReplacer("/usr/bin/cnibox", dir+"/cnibox", "/run/systemd/system", dir, "/opt/cni", dir+"/opt/cni").Replace(string(text))
			c := exec.Command("sh", append([]string{"-c", moved, tt.script}, strings.Fields(tt.args)...)...)
			c.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			called, _ := os.ReadFile(filepath.Join(dir, "cnibox.called"))
			if strings.TrimSpace(string(called)) != tt.want {
				t.Errorf("called cnibox %q, want %q", called, tt.want)
			}
		})
	}
}
