package node

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is how people read what a node has.

// Short is a container ID as people know it: the first 12 characters.
func Short(id string) string { return id[:min(len(id), 12)] }

// Name is what an attachment's container is called: its pod, if a runtime has told, or its ID, shortened.
func (a *Attachment) Name() string {
	if a.Pod != "" {
		return a.Pod
	}
	return Short(a.ContainerID)
}

// Title is an attachment on one line.
func (a *Attachment) Title() string { return a.Network + "/" + Short(a.ContainerID) + "/" + a.IfName }

// Age is a time that has passed, in its greatest unit.
func Age(d time.Duration) string {
	number := func(d time.Duration) string { return strconv.FormatInt(int64(d), 10) }
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return number(max(d, 0)/time.Second) + "s"
	case d < time.Hour:
		return number(d/time.Minute) + "m"
	case d < day:
		return number(d/time.Hour) + "h"
	default:
		return number(d/day) + "d"
	}
}

// Rate is a number of bits, bytes or packets per second in at most five characters: 950, 1.5k, 8M, 2.5G.
func Rate(n uint64) string {
	const thousand = 1000
	v, unit := float64(n), ""
	for _, next := range []string{"k", "M", "G", "T"} {
		if v < thousand {
			break
		}
		v, unit = v/thousand, next
	}
	precision := 1
	if v >= 100 || unit == "" {
		precision = 0
	}
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', precision, 64), ".0") + unit
}

// String is what limits are in short: what the pod receives and sends, in bits per second.
func (l *Limits) String() string {
	if l == nil {
		return ""
	}
	one := func(n uint64) string {
		if n == 0 {
			return "-"
		}
		return Rate(n)
	}
	return one(l.In) + "/" + one(l.Out)
}

// PortWords are an attachment's ports as people write them. One that both families have is there once.
func (a *Attachment) PortWords() (out []string) {
	for _, p := range a.Ports {
		if s := p.String(); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Matches tells whether an attachment is of the network and of the container, of which the beginning of the ID or the pod's name is given. What is
// empty matches all.
func (a *Attachment) Matches(network, container string) bool {
	return (network == "" || a.Network == network) && (container == "" || strings.HasPrefix(a.ContainerID, container) || a.Pod == container)
}
