// Command arch runs the executables of other architectures in virtual machines with Debian's kernels for these: what no emulation of system calls
// shows, the packet filter above all, and numbers that are the other way round. The archives are those of `make dist`.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cnibox/cnibox/scripts/machine"
)

// architecture is one that Debian has a kernel for, and qemu a machine.
type architecture struct {
	name    string // as Go and Debian name it
	kernel  string // Debian's name for the newest one
	qemu    []string
	console string
}

func architectures() []architecture {
	return []architecture{
		{
			name: "arm64", kernel: "linux-image-cloud-arm64", console: "ttyAMA0",
			qemu: []string{"qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72", "-serial", "stdio"},
		},
		{
			name: "s390x", kernel: "linux-image-s390x", console: "ttysclp0",
			qemu: []string{"qemu-system-s390x", "-machine", "s390-ccw-virtio", "-cpu", "max", "-chardev", "stdio,id=c", "-device", "sclpconsole,chardev=c"},
		},
	}
}

// wanted are the modules that the guest loads, with what they depend on.
func wanted() []string {
	return strings.Fields(`crc32c_generic veth bridge br_netfilter vxlan ifb nf_tables nft_chain_nat nft_nat nft_masq nft_redir nft_ct nft_fib nft_fib_ipv4
		nft_fib_ipv6 nft_fib_inet nft_numgen nft_hash nft_limit nft_reject_inet nft_meta_bridge nft_reject_bridge nf_conntrack_netlink sch_tbf sch_ingress cls_u32
		cls_matchall act_mirred`)
}

// limit is how long a machine may take; it takes half a minute.
const limit = 10 * time.Minute

// allDone is what the guest says in the end.
const allDone = "guest: all steps done"

func main() {
	home, _ := os.UserCacheDir()
	cache := flag.String("cache", filepath.Join(home, "cnibox-vm"), "folder that kernels are kept in")
	dist := flag.String("dist", "dist", "folder with the archives")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var errs []error
	for _, a := range architectures() {
		if err := a.run(ctx, *cache, *dist); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a.name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "arch:", err)
		os.Exit(1)
	}
}

func (a *architecture) run(ctx context.Context, cache, dist string) error {
	fmt.Printf("\n%s\n", a.name)
	work, err := os.MkdirTemp("", "cnibox-arch-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	options, err := a.apt(cache)
	if err != nil {
		return err
	}
	kernel, err := machine.FetchKernel(ctx, filepath.Join(cache, a.name), a.kernel+":"+a.name, options...)
	if err != nil {
		return fmt.Errorf("kernel: %w", err)
	}
	image := filepath.Join(work, "initramfs")
	if err := a.image(ctx, image, kernel, dist, work); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return a.boot(ctx, kernel.Path, image)
}

// apt makes folders by which apt knows the architecture's packages, apart from the machine's own.
func (a *architecture) apt(cache string) (options []string, err error) {
	dir := filepath.Join(cache, "apt-"+a.name)
	sources := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg arch=" + a.name + "] http://deb.debian.org/debian bookworm main\n"
	err = errors.Join(
		os.MkdirAll(dir+"/lists/partial", 0o755), os.MkdirAll(dir+"/cache/archives/partial", 0o755),
		os.WriteFile(dir+"/status", nil, 0o644), os.WriteFile(dir+"/sources.list", []byte(sources), 0o644),
	)
	for _, o := range []string{
		"Dir::State::lists=" + dir + "/lists", "Dir::Cache=" + dir + "/cache", "Dir::State::status=" + dir + "/status",
		"Dir::Etc::sourcelist=" + dir + "/sources.list", "Dir::Etc::sourceparts=/dev/null", "APT::Architecture=" + a.name, "APT::Architectures::=" + a.name,
	} {
		options = append(options, "-o", o)
	}
	return options, err
}

// image writes the machine's file system: the guest as its first process, the kernel's modules, the executable and networks' lists.
func (a *architecture) image(ctx context.Context, path string, k *machine.Kernel, dist, work string) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	archive := machine.NewArchive(out)
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "var/lib", "opt/cni/bin", "etc"} {
		archive.Entry(dir, 0o40755, nil)
	}
	guest := filepath.Join(work, "guest")
	if _, err := machine.Output(ctx, "env", "GOOS=linux", "GOARCH="+a.name, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", guest, "./scripts/arch/guest"); err != nil {
		return err
	}
	archive.FileAs("init", guest)
	made, err := filepath.Glob(filepath.Join(dist, "cnibox-*-linux-"+a.name+".tar.gz"))
	if err != nil || len(made) != 1 {
		return fmt.Errorf("archives in %s: %q (%w)", dist, made, err)
	}
	if _, err := machine.Output(ctx, "tar", "-C", work, "-xzf", made[0], "cnibox"); err != nil {
		return err
	}
	archive.FileAs("cnibox", filepath.Join(work, "cnibox"))
	for _, list := range []string{"podnet", "tunnelnet"} {
		archive.FileAs(list+".conflist", "scripts/e2e/conf/"+list+".conflist")
	}
	names, text, err := k.Load(ctx, wanted())
	if err != nil {
		return err
	}
	for i, name := range names {
		archive.Entry(fmt.Sprintf("modules/%03d-%s.ko", i, name), 0o100600, text[name])
	}
	return archive.Close()
}

// boot starts the machine and waits for its end. What the guest says is shown.
func (a *architecture) boot(ctx context.Context, kernel, image string) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	args := append(a.qemu[1:len(a.qemu):len(a.qemu)], "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-accel", "tcg", "-smp", "1", "-m", "1G",
		"-kernel", kernel, "-initrd", image, "-append", "console="+a.console+" quiet loglevel=3 panic=-1")
	cmd := exec.CommandContext(ctx, a.qemu[0], args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &said), os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	if !strings.Contains(said.String(), allDone) {
		return errors.New("the guest did not do all of its steps")
	}
	return nil
}
