package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// metaPackage is Debian's name for the newest kernel of the series; it depends on the package with the kernel itself.
const metaPackage = "linux-image-6.12-cloud-amd64"

// kernel is a kernel with its modules, unpacked.
type kernel struct {
	path    string // of the image
	modules string // folder with kernel/ and modules.dep
}

// wanted are the modules that are loaded, with what they depend on.
func wanted() []string {
	return strings.Fields(`qemu_fw_cfg virtio_pci virtio_console crc32c_generic veth bridge br_netfilter 8021q vxlan macvlan ipvlan dummy ifb tun tap vrf
		nlmon bonding nf_tables nft_chain_nat nft_nat nft_masq nft_redir nft_ct nft_fib nft_fib_ipv4 nft_fib_ipv6 nft_fib_inet nft_numgen nft_hash nft_limit
		nft_log nft_quota nft_reject nft_reject_ipv4 nft_reject_ipv6 nft_reject_inet nft_connlimit nft_compat nft_fwd_netdev nft_dup_netdev
		nft_fib_netdev nft_meta_bridge nft_reject_bridge nf_conntrack_netlink nf_conntrack_bridge ip_tables iptable_filter iptable_nat ip6_tables
		ip6table_filter ip6table_nat xt_comment xt_conntrack xt_mark xt_multiport xt_MASQUERADE xt_nat xt_addrtype xt_tcpudp xt_CT ipt_REJECT ip6t_REJECT
		sch_tbf sch_htb sch_fq_codel sch_ingress cls_u32 cls_matchall cls_flower cls_bpf act_mirred act_police act_gact act_skbedit sctp xfrm_user`)
}

// fetchKernel downloads Debian's kernel into the cache, unless the newest is there, and unpacks it.
func fetchKernel(ctx context.Context, cache string) (*kernel, error) {
	deps, err := output(ctx, "apt-cache", "depends", metaPackage)
	if err != nil { // the lists of packages are not there
		if _, err = output(ctx, "apt-get", "-qq", "update"); err == nil {
			deps, err = output(ctx, "apt-cache", "depends", metaPackage)
		}
	}
	if err != nil {
		return nil, err
	}
	_, name, ok := strings.Cut(deps, "Depends: ")
	if !ok {
		return nil, fmt.Errorf("%s depends on nothing: %s", metaPackage, deps)
	}
	name = strings.Fields(name)[0]
	version := strings.TrimPrefix(name, "linux-image-")
	dir := filepath.Join(cache, name)
	k := &kernel{path: filepath.Join(dir, "boot", "vmlinuz-"+version), modules: filepath.Join(dir, "lib", "modules", version)}
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return k, nil
	}
	fmt.Fprintln(os.Stderr, "downloading", name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	for _, command := range []string{
		"apt-get -qq -o APT::Sandbox::User=root download " + name,
		"dpkg -x " + name + "_*.deb .",
		"rm " + name + "_*.deb",
		"depmod -b . " + version,
		"touch complete",
	} {
		if _, err := output(ctx, "sh", "-c", "cd '"+dir+"' && PATH=$PATH:/usr/sbin:/sbin && "+command); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// load returns the wanted modules, uncompressed and without their signatures, in an order in which they can be loaded. Those that are built in,
// and those that this kernel does not have, are left out: a test that needs one says so.
func (k *kernel) load(ctx context.Context) (names []string, text map[string][]byte, err error) {
	dep, err := os.ReadFile(filepath.Join(k.modules, "modules.dep"))
	if err != nil {
		return nil, nil, err
	}
	paths, needs := map[string]string{}, map[string][]string{}
	for line := range strings.Lines(string(dep)) {
		path, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		paths[moduleName(path)] = path
		for _, d := range strings.Fields(deps) {
			needs[moduleName(path)] = append(needs[moduleName(path)], moduleName(d))
		}
	}
	text = map[string][]byte{}
	var add func(name string) error
	add = func(name string) error {
		path, known := paths[name]
		if _, done := text[name]; done || !known {
			return nil
		}
		text[name] = nil
		for _, d := range needs[name] {
			if err := add(d); err != nil {
				return err
			}
		}
		raw, err := output(ctx, "xz", "-dc", filepath.Join(k.modules, path))
		if err != nil {
			return err
		}
		text[name] = unsigned([]byte(raw))
		names = append(names, name)
		return nil
	}
	for _, name := range wanted() {
		if err := add(strings.ReplaceAll(name, "-", "_")); err != nil {
			return nil, nil, err
		}
	}
	return names, text, nil
}

func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// unsigned is a module without the signature behind it (linux/module_signature.h), which to check takes three times as long as all else.
func unsigned(module []byte) []byte {
	const magic, header = "~Module signature appended~\n", 12
	body, ok := bytes.CutSuffix(module, []byte(magic))
	if !ok || len(body) < header {
		return module
	}
	size := int(binary.BigEndian.Uint32(body[len(body)-4:]))
	return body[:max(len(body)-header-size, 0)]
}
