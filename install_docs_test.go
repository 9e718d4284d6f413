package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each page on installing tells how to upgrade and to remove, whether it was tried, and has only links that lead somewhere and configurations
// that install would take.
func TestInstallPages(t *testing.T) {
	t.Parallel()
	names := []string{"kubernetes", "k3s", "talos", "flatcar", "containerd", "cri-o", "podman", "nomad"}
	for _, name := range names {
		page, err := os.ReadFile("docs/install/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		text := string(page)
		for _, part := range []string{"\nUpgrade", "emoval"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has nothing on %q", name, strings.TrimSpace(part))
			}
		}
		if !strings.Contains(text, "\nChecked by: ") && !strings.Contains(text, "\nNot tried ") {
			t.Errorf("%s does not tell whether it was tried", name)
		}
		for _, fence := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(text, -1) {
			if out := findings(t, fence[1]); out != "" {
				t.Errorf("%s: %s in %s", name, out, fence[1])
			}
		}
	}
	pages, err := filepath.Glob("docs/install/*.md")
	if err != nil || len(pages) != len(names)+1 {
		t.Fatalf("pages: %q (%v)", pages, err)
	}
	for _, path := range pages {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`).FindAllStringSubmatch(string(page), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(path), link[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

// findings is what the command validate finds in a configuration.
func findings(t *testing.T, conf string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.conflist")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if code := runCommand([]string{"cnibox", "validate", path}, &out, &out); code == 0 && strings.Contains(out.String(), "0 errors, 0 warnings") {
		return ""
	}
	return out.String()
}
