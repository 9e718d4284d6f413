package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// programs are those that tests call.
func programs() []string {
	return strings.Fields(`sh bash cat cp rm mkdir mv mount umount grep sed sleep true false ls env test chmod touch head tail sort tr wc cut id kill timeout
		unshare nsenter setpriv readlink dirname basename date dd find mktemp printf rmdir seq stat tee uniq which xargs
		ip tc bridge ss nft conntrack sysctl ping tcpdump strace dnsmasq dhcpd
		iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore
		iptables-nft iptables-nft-save iptables-nft-restore ip6tables-nft ip6tables-nft-save ip6tables-nft-restore
		iptables-legacy iptables-legacy-save iptables-legacy-restore ip6tables-legacy ip6tables-legacy-save ip6tables-legacy-restore`)
}

// data are files and folders of the host that programs look for.
func data() []string {
	return strings.Fields(`/etc/protocols /etc/services /etc/resolv.conf /etc/alternatives /etc/passwd /etc/group /etc/nsswitch.conf /usr/lib/x86_64-linux-gnu/xtables
		/etc/iproute2 /usr/lib/iproute2`)
}

// archive writes an initramfs: a cpio archive of the form "newc" (linux/Documentation/driver-api/early-userspace/buffer-format.rst).
type archive struct {
	w    *bufio.Writer
	seen map[string]bool
	err  error
}

// entry adds a file with all folders above it.
func (a *archive) entry(path string, mode uint32, content []byte) {
	path = merged(strings.Trim(path, "/"))
	if a.seen[path] || path == "" || path == "." {
		return
	}
	if dir := filepath.Dir(path); dir != "." {
		a.entry(dir, 0o40755, nil)
	}
	a.seen[path] = true
	a.write(path, mode, content)
}

// mergedFolders are links to those of their names in /usr, as in Debian 12.
func mergedFolders() []string { return []string{"bin", "sbin", "lib", "lib64"} }

// merged is the path without such a link.
func merged(path string) string {
	for _, dir := range mergedFolders() {
		if strings.HasPrefix(path, dir+"/") {
			return "usr/" + path
		}
	}
	return path
}

func (a *archive) write(path string, mode uint32, content []byte) {
	numbers := []int{len(a.seen), int(mode), 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path) + 1, 0}
	header := "070701"
	for _, n := range numbers {
		header += fmt.Sprintf("%08X", n)
	}
	for _, part := range []string{header + path + "\x00", string(content)} {
		_, err := io.WriteString(a.w, part+strings.Repeat("\x00", -len(part)&3))
		a.err = errors.Join(a.err, err)
	}
}

// file adds a file or folder of the host under the same path, and what it links to.
func (a *archive) file(path string) {
	a.fileAs(path, path)
}

func (a *archive) fileAs(name, path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return // this host does without
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		a.err = errors.Join(a.err, err)
		a.entry(name, 0o120777, []byte(target))
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		if !a.seen[strings.Trim(target, "/")] {
			a.file(target)
		}
	case info.IsDir():
		a.entry(name, 0o40755, nil)
		entries, err := os.ReadDir(path)
		a.err = errors.Join(a.err, err)
		for _, e := range entries {
			a.fileAs(filepath.Join(name, e.Name()), filepath.Join(path, e.Name()))
		}
	case info.Mode().IsRegular():
		content, err := os.ReadFile(path)
		a.err = errors.Join(a.err, err)
		a.entry(name, 0o100000|uint32(info.Mode().Perm()), content)
	}
}

// program adds a program with its shared libraries.
func (a *archive) program(ctx context.Context, name string) {
	path := lookUp(name)
	if path == "" {
		return // a test that calls it fails, and says so
	}
	a.file(path)
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return
	}
	a.file(real)
	libraries, err := output(ctx, "ldd", real) // fails for a static program
	if err != nil {
		return
	}
	for _, field := range strings.Fields(libraries) {
		if filepath.IsAbs(field) {
			a.file(field)
			if real, err := filepath.EvalSymlinks(field); err == nil {
				a.file(real)
			}
		}
	}
}

// lookUp finds a program where Debian puts it, not what a developer has in front of that.
func lookUp(name string) string {
	for _, dir := range []string{"/usr/sbin", "/usr/bin"} {
		if path := filepath.Join(dir, name); fileExists(path) {
			return path
		}
	}
	return ""
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// order is what the machine's init reads of the image.
type order struct {
	Modules []string          `json:"modules"` // paths, in the order in which they are loaded
	Suites  map[string]string `json:"suites"`  // from the folder to the path of the binary
}

// writeImage makes the machines' file system: init, modules, programs, the module's files, and the tests.
func writeImage(ctx context.Context, path string, k *kernel, suites []suite, work string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	a := &archive{w: bufio.NewWriterSize(file, 1<<20), seen: map[string]bool{}}
	for _, link := range mergedFolders() {
		a.entry(link, 0o120777, []byte("usr/"+link))
	}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "run/netns", "var/lib", "root", "etc/cni"} {
		a.entry(dir, 0o40755, nil)
	}
	if err := a.built(ctx, work); err != nil {
		return err
	}
	names, text, err := k.load(ctx)
	if err != nil {
		return err
	}
	o := order{Suites: map[string]string{}}
	for _, name := range names {
		at := "/modules/" + name + ".ko"
		a.entry(at, 0o100600, text[name])
		o.Modules = append(o.Modules, at)
	}
	for _, p := range programs() {
		a.program(ctx, p)
	}
	for _, d := range data() {
		a.file(d)
	}
	for _, s := range suites {
		at := "/tests/" + filepath.Base(s.binary)
		a.fileAs(at, s.binary)
		o.Suites[s.dir] = at
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	a.entry("order.json", 0o100600, raw)
	a.write("TRAILER!!!", 0, nil)
	return errors.Join(a.err, a.w.Flush())
}

// built adds what is compiled here, and the module's own files.
func (a *archive) built(ctx context.Context, work string) error {
	init := filepath.Join(work, "init")
	if _, err := output(ctx, "go", "build", "-o", init, "./scripts/vm/init"); err != nil {
		return err
	}
	a.fileAs("init", init)
	executable := filepath.Join(work, "cnibox")
	if _, err := output(ctx, "make", "build", "BIN="+executable); err != nil {
		return err
	}
	a.fileAs("built/cnibox", executable)
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	files, err := output(ctx, "git", "ls-files", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return err
	}
	for f := range strings.Lines(files) {
		f = strings.TrimSpace(f)
		a.fileAs(filepath.Join("src", f), filepath.Join(root, f))
	}
	return nil
}
