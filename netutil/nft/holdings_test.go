package nft_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/nft"
)

// What attachments hold is listed with what of it is missing, by those who have records and by those who have none, and nothing is changed by it.
func TestHoldings(t *testing.T) {
	t.Parallel()
	h, all, _ := restorable(t)
	list := func() (out []nft.Holding) {
		h.plugin(func(t *nft.Tables) (err error) {
			out, err = t.Holdings()
			return err
		})
		return out
	}
	features := 0
	for _, entries := range all {
		features += len(nft.Features(entries))
	}
	whole := list()
	if len(whole) != features {
		t.Errorf("%d holdings, want %d", len(whole), features)
	}
	for _, x := range whole {
		if !x.Recorded() || len(x.Missing) > 0 || len(x.Entries) == 0 || x.Link != x.Owner.LinkName() {
			t.Errorf("of all that stands: %+v", x)
		}
	}
	if again := list(); fmt.Sprint(again) != fmt.Sprint(whole) {
		t.Errorf("the order changes: %v, %v", whole, again)
	}

	h.Run("nft", "flush", "ruleset")
	for _, x := range list() {
		if x.Elements > 0 {
			t.Errorf("of nothing: %+v", x)
		}
	}
	if out := h.Run("nft", "list", "ruleset"); strings.TrimSpace(out) != "" {
		t.Errorf("it was changed: %s", out)
	}
}

// Without records the journal tells; a port that another attachment of the container has is not missing.
func TestHoldingsOfTheJournal(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	first, second := pod("a"), pod("a")
	second.IfName = "eth1"
	h.add(first, tcp(8080, "10.1.0.2", 80), masq("10.1.0.2", "10.1.0.0/24"))
	h.add(second, tcp(8080, "10.2.0.2", 80))
	h.Run("nft", "delete element inet cnibox masquerade-10.1.0.0/24 { 10.1.0.2 }")
	held, err := h.tables().Holdings()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"mynet/a/eth0 masquerade":    "0 elements, 0 ports, [10.1.0.2 in inet cnibox masquerade-10.1.0.0/24]",
		"mynet/a/eth0 port mappings": "1 elements, 1 ports, []", "mynet/a/eth1 port mappings": "0 elements, 0 ports, []",
	}
	for _, x := range held {
		of := x.Text + " " + x.Feature.String()
		if got := fmt.Sprintf("%d elements, %d ports, %v", x.Elements, len(x.Ports), x.Missing); got != want[of] || x.Recorded() {
			t.Errorf("%s: %s, want %s", of, got, want[of])
		}
		delete(want, of)
	}
	if len(want) > 0 {
		t.Errorf("not listed: %v", want)
	}
}

// A rule for many that is gone is missing to each of them.
func TestHoldingsWithoutARule(t *testing.T) {
	t.Parallel()
	h, _, _ := restorable(t)
	h.Run("nft", "flush chain inet cnibox leaving")
	var missing []string
	h.plugin(func(t *nft.Tables) error {
		held, err := t.Holdings()
		for _, x := range held {
			for _, m := range x.Missing {
				missing = append(missing, x.Owner.ContainerID+": "+m)
			}
		}
		return err
	})
	if all := strings.Join(missing, "\n"); !strings.Contains(all, "other10.2.0.4: the rule for 10.2.0.0/24 in inet cnibox leaving") {
		t.Errorf("missing: %s", all)
	}
}
