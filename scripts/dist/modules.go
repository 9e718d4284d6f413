package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// module is a part of the executable that is others' work.
type module struct {
	path, version string
	sum           string // as in go.sum
	licence       string // its SPDX identifier
	licenceText   string
}

// golang is the module that Go's own library is taken for.
const golang = "stdlib"

// modulesOf reads from an executable what is in it, Go's library first, and finds the licences where Go keeps the modules.
func modulesOf(executable string) ([]module, error) {
	info, err := buildinfo.ReadFile(executable)
	if err != nil {
		return nil, err
	}
	env, err := exec.Command("go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	root, cache, _ := strings.Cut(strings.TrimSpace(string(env)), "\n")
	modules := []module{{path: golang, version: info.GoVersion}}
	dirs := []string{root}
	for _, m := range info.Deps {
		modules = append(modules, module{path: m.Path, version: m.Version, sum: m.Sum})
		dirs = append(dirs, filepath.Join(cache, escaped(m.Path)+"@"+escaped(m.Version)))
	}
	for i := range modules {
		m := &modules[i]
		if m.licenceText, err = readLicence(dirs[i]); err != nil {
			return nil, fmt.Errorf("licence of %s: %w", m.path, err)
		}
		if m.licence = licenceOf(m.licenceText); m.licence == "" {
			return nil, fmt.Errorf("licence of %s: not one that dist knows", m.path)
		}
	}
	return modules, nil
}

// escaped is a module's path or version as the folder of the cache has it.
func escaped(s string) string {
	var out strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) {
			out.WriteByte('!')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}

// readLicence reads the licences in a folder, with the notice that some ask to be handed on.
func readLicence(dir string) (string, error) {
	entries, err := os.ReadDir(dir) // in order, so a notice comes last
	if err != nil {
		return "", err
	}
	var all []string
	for _, e := range entries {
		name, _, _ := strings.Cut(strings.ToUpper(e.Name()), ".")
		if e.IsDir() || !slices.Contains([]string{"COPYING", "LICENCE", "LICENSE", "NOTICE"}, name) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		all = append(all, strings.TrimSpace(strings.ReplaceAll(string(text), "\r\n", "\n")))
	}
	if len(all) == 0 {
		return "", fmt.Errorf("none in %s", dir)
	}
	return strings.Join(all, "\n\n"), nil
}

// licenceOf tells a licence by words that stand in no other. It is empty if it is none of those.
func licenceOf(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	has := func(words string) bool { return strings.Contains(text, words) }
	switch {
	case has("Apache License") && has("Version 2.0"):
		return "Apache-2.0"
	case has("Mozilla Public License") && has("2.0"):
		return "MPL-2.0"
	case has("Redistribution and use in source and binary forms") && (has("Neither the name") || has("names of its contributors")):
		return "BSD-3-Clause"
	case has("Redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case has("Permission is hereby granted, free of charge, to any person obtaining a copy"):
		return "MIT"
	case has("Permission to use, copy, modify, and") && has("distribute this software for any purpose"):
		return "ISC"
	}
	return ""
}

// thirdParty is the licences of what is in an executable, as these want them handed on.
func thirdParty(modules []module) string {
	var out strings.Builder
	out.WriteString("The executable contains these works, each under its own licence.\n")
	for _, m := range modules {
		fmt.Fprintf(&out, "\n%s\n%s %s (%s)\n\n%s\n", strings.Repeat("=", 80), m.path, m.version, m.licence, m.licenceText)
	}
	return out.String()
}
