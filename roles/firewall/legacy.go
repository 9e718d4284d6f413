package firewall

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
)

// This file is for hosts whose rules are those of legacy iptables, which are not nftables': only its own programs change them. They are run
// only there, and only where "backend": "iptables" asks for it. What library there is (go-iptables) compiles regular expressions at each
// start of the executable, and runs one program for each rule; here two are run for all of a family's.

// legacyChain is our chain in the table filter.
const legacyChain = "CNIBOX-FORWARD"

// legacyFamily is one of the two tables of legacy iptables.
type legacyFamily struct {
	is6               bool
	tables            string // what lists the tables that there are, below /proc/thread-self/net
	save, save2       string // the program, by the name that distributions with both variants give it, and by that of others
	restore, restore2 string
}

func legacyFamilies() []legacyFamily {
	return []legacyFamily{
		{false, "ip_tables_names", "iptables-legacy-save", "iptables-save", "iptables-legacy-restore", "iptables-restore"},
		{true, "ip6_tables_names", "ip6tables-legacy-save", "ip6tables-save", "ip6tables-legacy-restore", "ip6tables-restore"},
	}
}

// inUse tells whether packets pass the legacy table.
func (f *legacyFamily) inUse(host *netutil.Namespace) (used bool, err error) {
	err = host.Do(func() error {
		raw, err := os.ReadFile("/proc/thread-self/net/" + f.tables)
		used = slices.Contains(strings.Fields(string(raw)), "filter")
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return used, err
}

// legacyInUse tells whether the host has rules of legacy iptables.
func legacyInUse(host *netutil.Namespace) (bool, error) {
	for _, f := range legacyFamilies() {
		if used, err := f.inUse(host); used || err != nil {
			return used, err
		}
	}
	return false, nil
}

// runLegacy runs the first of the programs that there is, which must be of the legacy variant, in the host's namespace.
func runLegacy(ctx context.Context, input string, names []string, args ...string) (string, error) {
	const patience = 30 * time.Second // another program may hold the lock
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for _, name := range names {
		for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
			path := filepath.Join(dir, name)
			if _, err := os.Stat(path); err != nil {
				continue
			}
			cmd := exec.CommandContext(ctx, path, args...)
			cmd.Stdin = strings.NewReader(input)
			cmd.WaitDelay = time.Second
			var out, failed bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &failed
			if err := cmd.Run(); err != nil {
				return "", errcode.Errorf(errcode.Kernel, "%s: %w: %s", path, err, strings.Join(strings.Fields(failed.String()), " "))
			}
			return out.String(), nil
		}
	}
	return "", errcode.Errorf(errcode.NotAvailable, "backend: the host has rules of legacy iptables, and no program %s", names[0])
}

// legacyRules are the rules of our chain.
func (f *legacyFamily) legacyRules(want nft.Legacy) (rules []string) {
	for _, g := range want.Groups {
		if g.Subnet.Addr().Is6() != f.is6 {
			continue
		}
		link := func(flag string) string {
			if g.Link == "" {
				return ""
			}
			if wild, ok := strings.CutSuffix(g.Link, "*"); ok {
				return flag + wild + "+"
			}
			return flag + g.Link
		}
		rules = append(rules,
			"-A "+legacyChain+" -s "+g.Subnet.String()+link(" -i ")+" -j ACCEPT",
			"-A "+legacyChain+" -d "+g.Subnet.String()+link(" -o ")+" -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT")
	}
	if len(rules) == 0 {
		return nil
	}
	var first []string
	for _, name := range want.Admins {
		first = append(first, "-A "+legacyChain+" -j "+name)
	}
	return append(first, rules...)
}

// legacyJump is our rule in the chain FORWARD.
const legacyJump = "FORWARD -m comment --comment cnibox -j " + legacyChain

// change is what iptables-restore must read to make the table as it should be, given what iptables-save prints of it; empty if it is.
func (f *legacyFamily) change(saved string, want nft.Legacy) string {
	var have, jumps, foreign []string
	chains := map[string]int{} // how many rules each has
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			chains[name] += 0
		case strings.HasPrefix(line, "-A "+legacyChain+" "):
			have = append(have, line)
		case strings.HasSuffix(line, " -j "+legacyChain):
			jumps = append(jumps, line)
		case strings.HasPrefix(line, "-A "):
			name, _, _ := strings.Cut(line[len("-A "):], " ")
			chains[name]++
			foreign = append(foreign, line)
		}
	}
	_, present := chains[legacyChain]
	rules := f.legacyRules(want)
	var out []string
	switch {
	case len(rules) > 0 && present && slices.Equal(have, rules) && len(jumps) > 0, len(rules) == 0 && !present:
		return ""
	case len(rules) > 0:
		for _, name := range want.Admins {
			if _, there := chains[name]; !there {
				out = append(out, ":"+name+" - [0:0]")
			}
		}
		out = append(append(out, ":"+legacyChain+" - [0:0]"), rules...)
		if len(jumps) == 0 {
			out = append(out, "-I "+legacyJump)
		}
	default:
		for _, j := range jumps {
			out = append(out, "-D"+strings.TrimPrefix(j, "-A"))
		}
		out = append(out, "-F "+legacyChain, "-X "+legacyChain)
		for _, h := range have { // an administrator's chain that was never used goes too
			name, isJump := strings.CutPrefix(h, "-A "+legacyChain+" -j ")
			used := slices.ContainsFunc(foreign, func(l string) bool { return strings.HasSuffix(l, " -j "+name) })
			if n, there := chains[name]; isJump && there && n == 0 && !used {
				out = append(out, "-X "+name)
			}
		}
	}
	return "*filter\n" + strings.Join(out, "\n") + "\nCOMMIT\n"
}

// settleLegacy makes the legacy tables let through those who are to be, and no others.
func settleLegacy(ctx context.Context, host *netutil.Namespace, check bool) (changed bool, err error) {
	want, err := netutil.NFT(host).Legacy()
	if err != nil {
		return false, err
	}
	for _, f := range legacyFamilies() {
		if used, err := f.inUse(host); err != nil || !used {
			if err != nil {
				return changed, err
			}
			continue
		}
		saved, err := runLegacy(ctx, "", []string{f.save, f.save2}, "-t", "filter")
		if err != nil {
			return changed, err
		}
		change := f.change(saved, want)
		if change == "" {
			continue
		}
		changed = true
		if check {
			continue
		}
		if _, err := runLegacy(ctx, change, []string{f.restore, f.restore2}, "--noflush", "--wait"); err != nil {
			return changed, err
		}
	}
	return changed, nil
}
