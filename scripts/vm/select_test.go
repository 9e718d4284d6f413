package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPatternsOfSkippedTests(t *testing.T) {
	events := filepath.Join(t.TempDir(), "events")
	text := `{"Action":"skip","Package":"a","Test":"TestB"}
{"Action":"skip","Package":"a","Test":"TestA"}
{"Action":"pass","Package":"a","Test":"TestC"}
{"Action":"skip","Package":"a","Test":"TestC/x,_y"}
{"Action":"skip","Package":"a","Test":"TestC/0.1.0/vlan"}
{"Action":"skip","Package":"a","Test":"TestC/0.2.0/vlan"}
{"Action":"skip","Package":"b"}
`
	if err := os.WriteFile(events, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	skipped, err := readSkipped(events)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"^(TestA|TestB)$", `^(TestC)$/^(0\.1\.0|0\.2\.0)$/^(vlan)$`, "^(TestC)$/^(x,_y)$"}
	if got := patterns(skipped["a"]); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := patterns(skipped["b"]); got != nil { // a package without tests
		t.Errorf("got %q for b", got)
	}
	if err := os.WriteFile(events, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readSkipped(events); err == nil {
		t.Error("a run of which nothing is known counts as one that skipped nothing")
	}
}
