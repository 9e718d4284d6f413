package roletest

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// ReadmeExamples are the JSON blocks of the package's README.md, of which there must be count.
func ReadmeExamples(t testing.TB, count int) []string {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, part := range strings.Split(string(readme), "```json\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	if len(blocks) != count {
		t.Fatalf("%d examples, want %d", len(blocks), count)
	}
	return blocks
}

// WithDataDir is the configuration with ipam.dataDir in place of what it says, so that the machine's own addresses are left alone. A
// configuration without ipam stays as it is.
func WithDataDir(t testing.TB, conf, dir string) string {
	t.Helper()
	var keys map[string]any
	if err := json.Unmarshal([]byte(conf), &keys); err != nil {
		t.Fatalf("%s: %v", conf, err)
	}
	ipam, ok := keys["ipam"].(map[string]any)
	if !ok {
		return conf
	}
	ipam["dataDir"] = dir
	out, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
