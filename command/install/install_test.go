package install

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// program writes a file that install takes for a build of cnibox, as an older release would be.
func program(t *testing.T, path, body string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(body+buildPath), 0o755); err != nil {
		t.Fatal(err)
	}
}

func foreignProgram(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("foreign "+filepath.Base(path)), 0o755); err != nil {
		t.Fatal(err)
	}
}

// installFrom runs install with another file as the running program.
func installFrom(t *testing.T, source, dir string, force bool, names ...string) (string, error) {
	t.Helper()
	self, err := os.Open(source)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	var out strings.Builder
	err = install(&out, self, installation{dir: dir, names: names, force: force})
	return out.String(), err
}

// listing is the folder as lines "name -> target" or "name: content", build information cut off.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if target, err := os.Readlink(path); err == nil {
			lines = append(lines, e.Name()+" -> "+target)
			continue
		}
		if e.IsDir() {
			lines = append(lines, e.Name()+"/")
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, e.Name()+": "+strings.TrimSuffix(string(content), buildPath))
	}
	return lines
}

func wantListing(t *testing.T, dir string, want ...string) {
	t.Helper()
	if got := listing(t, dir); !slices.Equal(got, want) {
		t.Errorf("the folder holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func newProgram(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "cnibox-linux-amd64")
	program(t, path, "new")
	return path
}

var installTests = []struct {
	name   string
	before func(t *testing.T, dir string)
	force  bool
	fails  string // part of the error
	want   []string
}{
	{
		name: "empty folder",
		want: []string{"bridge -> cnibox", "cnibox: new", "ptp -> cnibox"},
	},
	{
		name: "folder is made",
		before: func(t *testing.T, dir string) {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		},
		want: []string{"bridge -> cnibox", "cnibox: new", "ptp -> cnibox"},
	},
	{
		name: "older release, other plugins stay",
		before: func(t *testing.T, dir string) {
			program(t, filepath.Join(dir, "cnibox"), "old")
			symlink(t, "cnibox", filepath.Join(dir, "bridge"))
			foreignProgram(t, filepath.Join(dir, "dhcp"))
		},
		want: []string{"bridge -> cnibox", "cnibox: new", "dhcp: foreign dhcp", "ptp -> cnibox"},
	},
	{
		name: "other ways to be cnibox: a copy and an absolute symlink",
		before: func(t *testing.T, dir string) {
			program(t, filepath.Join(dir, "bridge"), "old")
			symlink(t, filepath.Join(dir, "bridge"), filepath.Join(dir, "ptp"))
		},
		want: []string{"bridge -> cnibox", "cnibox: new", "ptp -> cnibox"},
	},
	{
		name: "left by an install that was killed",
		before: func(t *testing.T, dir string) {
			program(t, filepath.Join(dir, ".cnibox-new-cnibox"), "half")
			program(t, filepath.Join(dir, ".cnibox-old-cnibox"), "old")
			symlink(t, "cnibox", filepath.Join(dir, ".cnibox-new-bridge"))
		},
		want: []string{"bridge -> cnibox", "cnibox: new", "ptp -> cnibox"},
	},
	{
		name:   "foreign plugin",
		before: func(t *testing.T, dir string) { foreignProgram(t, filepath.Join(dir, "ptp")) },
		fails:  "not cnibox's, so left alone: ptp",
		want:   []string{"ptp: foreign ptp"},
	},
	{
		name:   "foreign program of our name",
		before: func(t *testing.T, dir string) { foreignProgram(t, filepath.Join(dir, "cnibox")) },
		fails:  "left alone: cnibox",
		want:   []string{"cnibox: foreign cnibox"},
	},
	{
		name: "broken symlink is foreign",
		before: func(t *testing.T, dir string) {
			symlink(t, "/nowhere/bridge", filepath.Join(dir, "bridge"))
		},
		fails: "left alone: bridge",
		want:  []string{"bridge -> /nowhere/bridge"},
	},
	{
		name: "forced",
		before: func(t *testing.T, dir string) {
			foreignProgram(t, filepath.Join(dir, "cnibox"))
			foreignProgram(t, filepath.Join(dir, "ptp"))
			symlink(t, "/nowhere/bridge", filepath.Join(dir, "bridge"))
		},
		force: true,
		want: []string{
			"bridge -> cnibox", "bridge.cnibox-backup -> /nowhere/bridge",
			"cnibox: new", "cnibox.cnibox-backup: foreign cnibox",
			"ptp -> cnibox", "ptp.cnibox-backup: foreign ptp",
		},
	},
	{
		name: "forced, killed after the backup",
		before: func(t *testing.T, dir string) {
			foreignProgram(t, filepath.Join(dir, "ptp"))
			if err := os.Link(filepath.Join(dir, "ptp"), filepath.Join(dir, "ptp.cnibox-backup")); err != nil {
				t.Fatal(err)
			}
		},
		force: true,
		want:  []string{"bridge -> cnibox", "cnibox: new", "ptp -> cnibox", "ptp.cnibox-backup: foreign ptp"},
	},
	{
		name: "forced never overwrites a backup",
		before: func(t *testing.T, dir string) {
			foreignProgram(t, filepath.Join(dir, "ptp"))
			foreignProgram(t, filepath.Join(dir, "ptp.cnibox-backup"))
		},
		force: true,
		fails: "a backup of another ptp",
		want:  []string{"ptp: foreign ptp", "ptp.cnibox-backup: foreign ptp.cnibox-backup"},
	},
	{
		name: "forced never replaces a folder",
		before: func(t *testing.T, dir string) {
			if err := os.Mkdir(filepath.Join(dir, "ptp"), 0o755); err != nil {
				t.Fatal(err)
			}
		},
		force: true,
		fails: "ptp is a folder",
		want:  []string{"ptp/"},
	},
}

func TestInstall(t *testing.T) {
	t.Parallel()
	for _, tt := range installTests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "bin")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if tt.before != nil {
				tt.before(t, dir)
			}
			_, err := installFrom(t, newProgram(t), dir, tt.force, "bridge", "ptp")
			if tt.fails == "" && err != nil {
				t.Fatal(err)
			}
			if tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("error %v, want one with %q", err, tt.fails)
			}
			wantListing(t, dir, tt.want...)
		})
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

// A failure at the last name takes back all before it: new symlinks, the replaced older release, backups.
func TestInstallIsAllOrNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program(t, filepath.Join(dir, "cnibox"), "old")
	program(t, filepath.Join(dir, "bridge"), "old copy")
	foreignProgram(t, filepath.Join(dir, "ptp"))
	before := listing(t, dir)

	self, err := os.Open(newProgram(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = self.Close() }()
	f, err := openFarm(dir)
	if err != nil {
		t.Fatal(err)
	}
	tooLong := strings.Repeat("x", 250) // a name that fits (255), but not with what the temporary one has in front
	if _, err := f.install(self, []string{"bridge", "loopback", "ptp", tooLong}, true); err == nil {
		t.Fatal("install succeeded with a name that is too long")
	}
	if err := f.close(); err != nil {
		t.Fatal(err)
	}
	wantListing(t, dir, before...)
}

func TestInstallTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	dir, source := t.TempDir(), newProgram(t)
	for range 2 {
		if _, err := installFrom(t, source, dir, false, "bridge"); err != nil {
			t.Fatal(err)
		}
		wantListing(t, dir, "bridge -> cnibox", "cnibox: new")
	}
	// The installed program may install itself: for roles that were left out the first time.
	if _, err := installFrom(t, filepath.Join(dir, "cnibox"), dir, false, "ptp"); err != nil {
		t.Fatal(err)
	}
	wantListing(t, dir, "bridge -> cnibox", "cnibox: new", "ptp -> cnibox")
}

// An upgrade under a plugin that runs: the call goes on with the old program, the next one finds the new.
func TestInstallOverRunningProgram(t *testing.T) {
	t.Parallel()
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	body, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program(t, filepath.Join(dir, "cnibox"), string(body)) // an ELF loader ignores what stands behind the sections
	symlink(t, "cnibox", filepath.Join(dir, "bridge"))

	running := exec.Command(filepath.Join(dir, "bridge"))
	stdin, err := running.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout strings.Builder
	running.Stdout = &stdout
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := installFrom(t, newProgram(t), dir, false, "bridge"); err != nil {
		t.Errorf("install over a running program: %v", err)
	}
	wantListing(t, dir, "bridge -> cnibox", "cnibox: new")
	if _, err := io.WriteString(stdin, "still here"); err != nil {
		t.Error(err)
	}
	if err := stdin.Close(); err != nil {
		t.Error(err)
	}
	if err := running.Wait(); err != nil || stdout.String() != "still here" {
		t.Errorf("the running plugin ended with %v and printed %q", err, stdout.String())
	}
}

func TestUninstall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreignProgram(t, filepath.Join(dir, "bridge"))
	foreignProgram(t, filepath.Join(dir, "dhcp"))
	symlink(t, "dhcp", filepath.Join(dir, "dhcp-link"))
	before := listing(t, dir)
	if _, err := installFrom(t, newProgram(t), dir, true, "bridge", "ptp"); err != nil {
		t.Fatal(err)
	}
	symlink(t, "cnibox", filepath.Join(dir, "of-an-older-release"))
	symlink(t, filepath.Join(dir, "cnibox"), filepath.Join(dir, "made-by-hand"))

	var out strings.Builder
	if err := uninstall(&out, dir); err != nil {
		t.Fatal(err)
	}
	wantListing(t, dir, before...)
	for _, want := range []string{": bridge, made-by-hand, of-an-older-release, ptp, cnibox\n", "put back: bridge\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it said\n%swithout %q", out.String(), want)
		}
	}

	for _, again := range []string{dir, filepath.Join(dir, "missing")} {
		out.Reset()
		if err := uninstall(&out, again); err != nil || !strings.HasPrefix(out.String(), "nothing of cnibox in ") {
			t.Errorf("uninstall from %s: %v, %q", again, err, out.String())
		}
	}
	wantListing(t, dir, before...)
}

// A program that someone put under a name after the install is theirs; the rest goes all the same.
func TestUninstallLeavesForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreignProgram(t, filepath.Join(dir, "bridge"))
	if _, err := installFrom(t, newProgram(t), dir, true, "bridge", "ptp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "bridge")); err != nil {
		t.Fatal(err)
	}
	foreignProgram(t, filepath.Join(dir, "bridge"))
	err := uninstall(io.Discard, dir)
	if err == nil || !strings.Contains(err.Error(), "bridge is not cnibox's") {
		t.Errorf("error %v", err)
	}
	wantListing(t, dir, "bridge: foreign bridge", "bridge.cnibox-backup: foreign bridge")
}

// The executable is a role's name as well: it is installed once.
func TestInstallRoleOfOurName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	foreignProgram(t, filepath.Join(dir, "cnibox"))
	out, err := installFrom(t, newProgram(t), dir, true, "bridge", "cnibox")
	if err != nil || strings.Count(out, "kept the former cnibox") != 1 {
		t.Errorf("%v, and it said %s", err, out)
	}
	wantListing(t, dir, "bridge -> cnibox", "cnibox: new", "cnibox.cnibox-backup: foreign cnibox")
}
