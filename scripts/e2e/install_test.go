package main

import (
	"os"
	"strings"
	"testing"
)

// The settings on the pages of docs/install are those that the clients run with here, but for the folders.
func TestPagesHaveWhatIsRun(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ page, fence, runs string }{
		{"containerd", "toml containerd", containerdConf},
		{"containerd", "toml containerd2", containerd2Conf},
		{"podman", "toml podman", podmanConf},
	} {
		page, err := os.ReadFile("../../docs/install/" + tt.page + ".md")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, found := strings.Cut(string(page), "```"+tt.fence+"\n")
		snippet, _, ended := strings.Cut(rest, "```")
		if !found || !ended {
			t.Errorf("%s has no block %q", tt.page, tt.fence)
			continue
		}
		runs := strings.NewReplacer(farm, "/opt/cni/bin", confDir, "/etc/cni/net.d").Replace(tt.runs)
		for line := range strings.Lines(snippet) {
			if !strings.Contains(runs, line) {
				t.Errorf("%s: nothing here runs with %q", tt.fence, line)
			}
		}
	}
}
