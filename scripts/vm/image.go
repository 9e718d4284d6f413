package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"

	"github.com/cnibox/cnibox/scripts/machine"
)

// metaPackage is Debian's name for the newest kernel of the series.
const metaPackage = "linux-image-6.12-cloud-amd64"

// wanted are the modules that are loaded, with what they depend on.
func wanted() []string {
	return strings.Fields(`qemu_fw_cfg virtio_pci virtio_console crc32c_generic veth bridge br_netfilter 8021q vxlan macvlan ipvlan dummy ifb tun tap vrf
		nlmon bonding nf_tables nft_chain_nat nft_nat nft_masq nft_redir nft_ct nft_fib nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet nft_numgen nft_hash nft_limit
		nft_log nft_quota nft_reject nft_reject_ipv4 nft_reject_ipv6 nft_reject_inet nft_connlimit nft_compat nft_fwd_netdev nft_dup_netdev
		nft_fib_netdev nft_meta_bridge nft_reject_bridge nf_conntrack_netlink nf_conntrack_bridge ip_tables iptable_filter iptable_nat ip6_tables
		ip6table_filter ip6table_nat xt_comment xt_conntrack xt_mark xt_multiport xt_MASQUERADE xt_nat xt_addrtype xt_tcpudp xt_CT ipt_REJECT ip6t_REJECT
		sch_tbf sch_htb sch_fq_codel sch_ingress cls_u32 cls_matchall cls_flower cls_bpf act_mirred act_police act_gact act_skbedit sctp xfrm_user`)
}

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

// addProgram adds a program with its shared libraries.
func addProgram(ctx context.Context, a *machine.Archive, name string) {
	path := lookUp(name)
	if path == "" {
		return // a test that calls it fails, and says so
	}
	a.File(path)
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return
	}
	a.File(real)
	libraries, err := output(ctx, "ldd", real) // fails for a static program
	if err != nil {
		return
	}
	for _, field := range strings.Fields(libraries) {
		if filepath.IsAbs(field) {
			a.File(field)
			if real, err := filepath.EvalSymlinks(field); err == nil {
				a.File(real)
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
func writeImage(ctx context.Context, path string, k *machine.Kernel, suites []suite, work string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	a := machine.NewArchive(file)
	for _, link := range machine.MergedFolders() {
		a.Entry(link, 0o120777, []byte("usr/"+link))
	}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "run/netns", "var/lib", "root", "etc/cni"} {
		a.Entry(dir, 0o40755, nil)
	}
	if err := addBuilt(ctx, a, work); err != nil {
		return err
	}
	names, text, err := k.Load(ctx, wanted())
	if err != nil {
		return err
	}
	o := order{Suites: map[string]string{}}
	for _, name := range names {
		at := "/modules/" + name + ".ko"
		a.Entry(at, 0o100600, text[name])
		o.Modules = append(o.Modules, at)
	}
	for _, p := range programs() {
		addProgram(ctx, a, p)
	}
	for _, d := range data() {
		a.File(d)
	}
	for _, s := range suites {
		at := "/tests/" + filepath.Base(s.binary)
		a.FileAs(at, s.binary)
		o.Suites[s.dir] = at
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	a.Entry("order.json", 0o100600, raw)
	return a.Close()
}

// addBuilt adds what is compiled here, and the module's own files.
func addBuilt(ctx context.Context, a *machine.Archive, work string) error {
	init := filepath.Join(work, "init")
	if _, err := output(ctx, "go", "build", "-o", init, "./scripts/vm/init"); err != nil {
		return err
	}
	a.FileAs("init", init)
	executable := filepath.Join(work, "cnibox")
	if _, err := output(ctx, "make", "build", "BIN="+executable); err != nil {
		return err
	}
	a.FileAs("built/cnibox", executable)
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
		a.FileAs(filepath.Join("src", f), filepath.Join(root, f))
	}
	return nil
}
