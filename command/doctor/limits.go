package doctor

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/rtnl"
)

// limits looks at tables of the kernel that may be full.
func limits(f *facts, l *list) {
	connections(f, l)
	neighbours(f, "ipv4", "arp_cache", netip.IPv4Unspecified(), l)
	neighbours(f, "ipv6", "ndisc_cache", netip.IPv6Unspecified(), l)
}

func connections(f *facts, l *list) {
	count, ok := f.sysctl("net", "netfilter", "nf_conntrack_count")
	most, ok2 := f.sysctl("net", "netfilter", "nf_conntrack_max")
	if !ok || !ok2 || most == 0 {
		return // nothing is tracked
	}
	percent := percentOf(uint64(count), uint64(most))
	severity := Warning
	if percent >= 95 {
		severity = Problem
	}
	if percent >= 80 {
		l.add(severity, fmt.Sprintf("%d of %d connections are tracked", count, most), "when the table is full new connections are dropped",
			"sysctl -w net.netfilter.nf_conntrack_max="+strconv.Itoa(2*most)+", and look who makes so many: conntrack -L")
	}
}

// neighbours compares the neighbour table with its limits. Both are the machine's: one table for all namespaces. Entries that are permanent, as those of
// tunnels to other nodes, do not count: neigh_forced_gc in net/core/neighbour.c, since Linux 5.0.
func neighbours(f *facts, family, cache string, like netip.Addr, l *list) {
	most, ok := f.sysctl("net", family, "neigh", "default", "gc_thresh3")
	some, ok2 := f.sysctl("net", family, "neigh", "default", "gc_thresh2")
	text, err := os.ReadFile("/proc/thread-self/net/stat/" + cache)
	if !ok || !ok2 || err != nil {
		return // limits are shown in the machine's first namespace only
	}
	count, ok := statEntries(string(text))
	if !ok {
		return
	}
	if count > some { // then it is worth a closer look
		count = max(count-f.permanent(like), 0)
	}
	key := "net." + family + ".neigh.default.gc_thresh"
	repair := fmt.Sprintf("sysctl -w %s3=%d %s2=%d %s1=%d", key, 4*most, key, 2*most, key, most)
	switch {
	case count*100 >= most*95:
		l.add(Problem, fmt.Sprintf("the neighbour table of %s has %d entries of at most %d", family, count, most), "new pods cannot be reached: \"neighbour table overflow\"", repair)
	case count > some:
		l.add(Warning, fmt.Sprintf("the neighbour table of %s has %d entries, more than gc_thresh2 (%d)", family, count, some),
			"the kernel throws entries out that are in use", repair)
	}
}

// permanent is how many entries of the host are permanent.
func (f *facts) permanent(like netip.Addr) (n int) {
	bodies, err := netutil.List(f.host, "neighbours", rtnl.GetNeighbors(0, like))
	if err != nil {
		return 0
	}
	for _, b := range bodies {
		if e, ok := rtnl.ParseNeighbor(b); ok && e.Permanent() {
			n++
		}
	}
	return n
}

// statEntries reads the number of entries from a file of /proc/net/stat: the first column below the heading, in hexadecimal.
func statEntries(text string) (n int, ok bool) {
	_, rest, _ := strings.Cut(text, "\n")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, false
	}
	v, err := strconv.ParseInt(fields[0], 16, 64)
	return int(v), err == nil
}
