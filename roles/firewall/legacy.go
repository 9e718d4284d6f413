package firewall

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
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
		rules = append(rules, "-A "+legacyChain+" -s "+g.Subnet.String()+link(" -i ")+" -j ACCEPT")
		for _, from := range g.From {
			rules = append(rules, "-A "+legacyChain+legacyWay(from, g.Subnet, link(" -o "))+" -j ACCEPT")
		}
		rules = append(rules,
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

// legacyWay matches what comes to the subnet by a link or from another subnet, written as iptables-save does.
func legacyWay(from string, to netip.Prefix, out string) string {
	if strings.Contains(from, "/") {
		return " -s " + from + " -d " + to.String() + out
	}
	return " -d " + to.String() + " -i " + from + out
}

// legacyJump is our rule in the chain FORWARD.
const legacyJump = "FORWARD -m comment --comment cnibox -j " + legacyChain

// legacyTable is the table filter as iptables-save prints it.
type legacyTable struct {
	chains      map[string]int // how many rules each has, but for ours
	ours, jumps []string       // rules of our chain, and those that lead to it
	others      []string
}

func parseLegacy(saved string) *legacyTable {
	t := &legacyTable{chains: map[string]int{}}
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			t.chains[name] += 0
		case strings.HasPrefix(line, "-A "+legacyChain+" "):
			t.ours = append(t.ours, line)
		case strings.HasSuffix(line, " -j "+legacyChain):
			t.jumps = append(t.jumps, line)
		case strings.HasPrefix(line, "-A "):
			name, _, _ := strings.Cut(line[len("-A "):], " ")
			t.chains[name]++
			t.others = append(t.others, line)
		}
	}
	return t
}

// change is what iptables-restore must read to make the table as it should be; empty if it is.
func (t *legacyTable) change(rules, admins []string) string {
	_, present := t.chains[legacyChain]
	var out []string
	switch {
	case len(rules) > 0 && present && slices.Equal(t.ours, rules) && len(t.jumps) > 0, len(rules) == 0 && !present:
		return ""
	case len(rules) > 0:
		for _, name := range admins {
			if _, there := t.chains[name]; !there {
				out = append(out, ":"+name+" - [0:0]")
			}
		}
		out = append(append(out, ":"+legacyChain+" - [0:0]"), rules...)
		if len(t.jumps) == 0 {
			out = append(out, "-I "+legacyJump)
		}
	default:
		out = t.removal()
	}
	return "*filter\n" + strings.Join(out, "\n") + "\nCOMMIT\n"
}

// removal takes our chain away, and administrators' chains that were never used.
func (t *legacyTable) removal() (out []string) {
	for _, j := range t.jumps {
		out = append(out, "-D"+strings.TrimPrefix(j, "-A"))
	}
	out = append(out, "-F "+legacyChain, "-X "+legacyChain)
	for _, rule := range t.ours {
		name, isJump := strings.CutPrefix(rule, "-A "+legacyChain+" -j ")
		used := slices.ContainsFunc(t.others, func(l string) bool { return strings.HasSuffix(l, " -j "+name) })
		if n, there := t.chains[name]; isJump && there && n == 0 && !used {
			out = append(out, "-X "+name)
		}
	}
	return out
}

// settleLegacy makes the legacy tables let through those who are to be, and no others. Others may do the same at the same time, and have
// changed who that is: the last to write is the one that knows them all.
func settleLegacy(ctx context.Context, host *netutil.Namespace) (changed bool, err error) {
	const tries = 10
	want, err := netutil.NFT(host).Legacy()
	for range tries {
		if err != nil {
			return changed, err
		}
		now, err := applyLegacy(ctx, host, want, false)
		if changed = changed || now; err != nil {
			return changed, err
		}
		before := want
		if want, err = netutil.NFT(host).Legacy(); err != nil || want.Equal(before) {
			return changed, err
		}
	}
	return changed, errcode.Errorf(errcode.TryAgainLater, "legacy iptables: who is to be let through changes all the time")
}

// applyLegacy makes the tables as is wanted, or only tells whether they are not. What it reads must still hold when it writes, so it has the
// namespace's lock.
func applyLegacy(ctx context.Context, host *netutil.Namespace, want nft.Legacy, check bool) (changed bool, err error) {
	unlock, err := host.Lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	for _, f := range legacyFamilies() {
		used, err := f.inUse(host)
		if err != nil {
			return changed, err
		}
		if !used {
			continue
		}
		saved, err := runLegacy(ctx, "", []string{f.save, f.save2}, "-t", "filter")
		if err != nil {
			return changed, err
		}
		change := parseLegacy(saved).change(f.legacyRules(want), want.Admins)
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

func checkLegacy(ctx context.Context, host *netutil.Namespace) error {
	want, err := netutil.NFT(host).Legacy()
	if err != nil {
		return err
	}
	differs, err := applyLegacy(ctx, host, want, true)
	if err == nil && differs {
		err = errcode.Errorf(errcode.Differs, "legacy iptables: chain FORWARD has no rule for pods, or chain %s has others", legacyChain)
	}
	return err
}
