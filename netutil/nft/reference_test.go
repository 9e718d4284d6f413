package nft_test

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/netutil/owner"
)

// The tests of this file are named after what the reference plugins do to the packet filter, and show that ours do not.

// entriesOf is what the i-th pod of a network has, each with its own address and port.
func entriesOf(i int, o owner.Owner) []nft.Entry {
	const subnet = "10.1.0.0/16"
	a := fmt.Sprintf("10.1.0.%d", i+2)
	return []nft.Entry{
		masq(a, subnet), tcp(uint16(8000+i), a, 80), snat(a, subnet),
		nft.SpoofCheckEntry{Port: o.LinkName(), MAC: net.HardwareAddr{2, 0, 0, 0, 0, byte(i)}},
		nft.ForwardEntry{Addr: addr(a), Subnet: prefix(subnet), Link: "cni0", Admin: "CNI-ADMIN"},
		nft.IngressEntry{Addr: addr(a), From: "cni0"},
	}
}

// What a packet passes is the same for one pod and for a hundred: each pod adds elements to sets and maps, and no rule.
func TestRulesGrowWithEachPod(t *testing.T) {
	h := newHost(t)
	rules := func() string { return h.Run("nft", "--stateless", "--terse", "list", "ruleset") } // without elements
	var one string
	for i := range 100 {
		o := pod(fmt.Sprint("pod", i))
		h.add(o, entriesOf(i, o)...)
		if i == 0 {
			one = rules()
		}
	}
	if hundred := rules(); hundred != one {
		t.Errorf("with a hundred pods:\n%s\nwith one:\n%s", hundred, one)
	}
}

// commits counts the transactions that the kernel's packet filter makes while do runs.
func (h *host) commits(do func()) int {
	h.t.Helper()
	var fd int
	err := h.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
	})
	defer func() { _ = unix.Close(fd) }()
	do()
	count := 0
	for buf := make([]byte, 1<<16); err == nil; {
		var n int
		if n, _, err = unix.Recvfrom(fd, buf, 0); err != nil {
			break
		}
		var messages []syscall.NetlinkMessage
		messages, err = syscall.ParseNetlinkMessage(buf[:n])
		for _, m := range messages {
			if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
				count++
			}
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		h.t.Fatal(err)
	}
	return count
}

// All that a pod has comes in one transaction, and so it goes, the spoof check in its own table included. If one part is refused, none is there.
func TestSpoofCheckIsNotAtomic(t *testing.T) {
	h := newHost(t)
	first, second, third := pod("first"), pod("second"), pod("third")
	h.add(first, entriesOf(0, first)...) // and the tables
	before := h.list()
	if n := h.commits(func() { h.add(second, entriesOf(1, second)...) }); n != 1 {
		t.Errorf("added in %d transactions", n)
	}
	n := h.commits(func() {
		if err := h.tables().Delete(second, features()...); err != nil {
			t.Error(err)
		}
	})
	if n != 1 {
		t.Errorf("deleted in %d transactions", n)
	}
	wantCode(t, h.tables().Add(third, append(entriesOf(2, third), tcp(8000, "10.1.0.4", 80))), errcode.PortBusy, "8000/tcp")
	if after := h.list(); after != before {
		t.Errorf("after:\n%s\nbefore:\n%s", after, before)
	}
}

// Deleting an element succeeds in the kernel whatever data it has, and adding one that is there fails. So a former holder's DEL, which comes
// late, must leave alone what is another's by now.
func TestDelOfAKeyThatIsAnothersByNow(t *testing.T) {
	h := newHost(t)
	old, fresh := pod("old"), pod("fresh")
	entries := []nft.Entry{tcp(8080, "10.1.0.6", 80), snat("10.1.0.6", "10.1.0.0/24")}
	h.add(old, tcp(8080, "10.1.0.5", 80))
	h.Run("nft", "delete element inet cnibox ports_ipv4 { tcp . 8080 }") // by hand: the journal still tells of it
	h.add(fresh, entries...)
	h.delete(old, nft.PortMap)
	if err := h.tables().Verify(fresh, entries); err != nil {
		t.Error(err)
	}
	wantCode(t, h.tables().Add(old, []nft.Entry{tcp(8080, "10.1.0.5", 80)}), errcode.PortBusy, "held by mynet/fresh/eth0")
}
