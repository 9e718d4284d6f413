package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

// target is what a ratio of two medians should be: at least, or at most, a limit.
type target struct {
	what    string
	of, to  key
	cpu     bool
	atLeast float64
	atMost  float64
}

const (
	masquerade = "bridge + masquerade"
	portmap    = "bridge + masquerade + portmap"
)

// targets are the promises that docs/benchmarks.md explains.
func targets() []target {
	row := func(name string, existing, atOnce int, operation, contender string) key {
		return key{name, existing, atOnce, operation, contender}
	}
	faster := func(name string, existing, atOnce int, operation, than string, limit float64) target {
		return target{
			what: fmt.Sprintf("%s: %s / cnibox", row(name, existing, atOnce, operation, "").title(), than), atLeast: limit,
			of: row(name, existing, atOnce, operation, than), to: row(name, existing, atOnce, operation, cnibox),
		}
	}
	within := func(what string, of, to key, limit float64) target {
		return target{what: what, of: of, to: to, atMost: limit}
	}
	grows := func(name, operation string, from, to int, limit float64) target {
		return within(fmt.Sprintf("%s: cnibox's %s at %d / at %d", name, operation, to, from),
			row(name, to, 1, operation, cnibox), row(name, from, 1, operation, cnibox), limit)
	}
	nearFloor := func(existing int) target {
		return within(fmt.Sprintf("%s: ADD at %d: cnibox / floor", masquerade, existing),
			row(masquerade, existing, 1, "ADD", cnibox), row(masquerade, existing, 1, "ADD", floor), 1.5)
	}
	crowd := faster(masquerade, 1, 50, "ADD", refNftables, 6)
	crowd.cpu, crowd.what = true, "CPU, "+crowd.what
	fusedChain := target{
		what: portmap + ", fused: ADD at 1: reference nftables / cnibox fused", atLeast: 15,
		of: row(portmap, 1, 1, "ADD", refNftables), to: row(portmap, 1, 1, "ADD", cniboxFused),
	}
	tunnelled := func(operation, contender string) key { return row(tunnelCase, 1, 1, operation, contender) }
	return []target{
		within("VERSION: cnibox / nothing", row("VERSION", 0, 1, "VERSION", cnibox), row("VERSION", 0, 1, "VERSION", nothing), 1.25),
		faster(masquerade, 1, 1, "ADD", refNftables, 6),
		faster(masquerade, 1000, 1, "ADD", refNftables, 11),
		nearFloor(1),
		nearFloor(1000),
		faster(masquerade, 1, 1, "DEL", refNftables, 4),
		faster(masquerade, 1000, 1, "DEL", refNftables, 8),
		faster("ptp, IPv6", 1, 1, "ADD", reference, 60),
		faster(portmap, 1, 1, "ADD", refNftables, 6),
		fusedChain,
		faster(masquerade, 1, 50, "ADD", refNftables, 5),
		crowd,
		grows("host-local", "ADD", 0, 60_000, 1.2),
		grows("host-local", "DEL", 0, 60_000, 1.2),
		faster("host-local", 60_000, 1, "ADD", reference, 60),
		faster("host-local", 60_000, 1, "DEL", reference, 60),
		grows("new connections", "connect", 10, 10_000, 1.1),
		grows("bridge", "ADD", 1, 1000, 1.6),
		grows("ptp + masquerade", "ADD", 1, 1000, 1.15),
		// The throughput is the inverse of the time.
		{what: "tunnel, throughput: cnibox / cnibox direct", of: tunnelled(sendOperation, cniboxDirect), to: tunnelled(sendOperation, cnibox), atLeast: 0.93},
		within("tunnel, round trip: cnibox / cnibox direct", tunnelled(roundTrip, cnibox), tunnelled(roundTrip, cniboxDirect), 1.15),
		{what: "tunnel, throughput: floor / floor direct", of: tunnelled(sendOperation, floorDirect), to: tunnelled(sendOperation, floor), atLeast: 0.93},
		within("tunnel, round trip: floor / floor direct", tunnelled(roundTrip, floor), tunnelled(roundTrip, floorDirect), 1.15),
	}
}

// verdicts tells of each target whose two rows were measured.
func verdicts(rows []row) string {
	byKey := map[key]row{}
	for _, r := range rows {
		byKey[r.key] = r
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, t := range targets() {
		of, ok1 := byKey[t.of]
		to, ok2 := byKey[t.to]
		if !ok1 || !ok2 {
			continue
		}
		got := ratio(of.Median, to.Median)
		if t.cpu {
			got = ratio(of.CPU, to.CPU)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.what, digits(got), t.limit(), pick(t.met(got), "met", "missed"))
	}
	_ = w.Flush()
	return text.String()
}

func (t target) limit() string {
	if t.atLeast > 0 {
		return "at least " + digits(t.atLeast)
	}
	return "at most " + digits(t.atMost)
}

func (t target) met(got float64) bool {
	if t.atLeast > 0 {
		return got >= t.atLeast
	}
	return got <= t.atMost
}
