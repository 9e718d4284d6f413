package main

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	bridgeName = "cni0"
	request    = unix.NLM_F_ACK
	create     = unix.NLM_F_ACK | unix.NLM_F_CREATE

	vethInfoPeer = 1 // VETH_INFO_PEER of linux/veth.h
)

// network is what the benchmark's networks of one family have in common.
type network struct {
	family     byte
	base       []byte // the first address
	subnetBits byte
	hostBits   byte
	text       string // what stands before a pod's number
	forward    string
}

func (c call) network() network {
	if c.ipv6 {
		base := []byte{0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		return network{unix.AF_INET6, base, 64, 128, "fd00:100::", "/proc/sys/net/ipv6/conf/all/forwarding"}
	}
	return network{unix.AF_INET, []byte{10, 100, 0, 0}, 16, 32, "10.100.", "/proc/sys/net/ipv4/ip_forward"}
}

// addr is the address of a number.
func (n network) addr(number uint16) []byte {
	a := append([]byte(nil), n.base...)
	binary.BigEndian.PutUint16(a[len(a)-2:], number)
	return a
}

// prefix is the text of an address as the result holds it.
func (n network) prefix(number uint16) string {
	host := strconv.Itoa(int(number>>8)) + "." + strconv.Itoa(int(number&255))
	if n.family == unix.AF_INET6 {
		host = strconv.FormatUint(uint64(number), 16)
	}
	return n.text + host + "/" + strconv.Itoa(int(n.subnetBits))
}

func (c call) add() error {
	number, err := c.take()
	if err != nil {
		return err
	}
	host, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	filter, err := open(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	master := 0
	if c.role == "bridge" {
		if master, err = c.bridge(host); err != nil {
			return err
		}
	}
	runtime.LockOSThread() // and ends with the process
	pod, err := unix.Open(c.netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return errors.New("open " + c.netns + ": " + err.Error())
	}
	if err := host.do(c.veth(master, pod)); err != nil {
		return errors.New("veth: " + err.Error())
	}
	if err := c.hostSide(host, number); err != nil {
		return err
	}
	if c.masquerade {
		if err := filter.do(element(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, c.network().addr(number))...); err != nil {
			return errors.New("element: " + err.Error())
		}
	}
	if err := c.podSide(pod, number); err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(`{"cniVersion":"1.0.0","ips":[{"address":"` + c.network().prefix(number) + `"}]}`)
	return err
}

// take counts addresses in a file.
func (c call) take() (uint16, error) {
	fd, err := unix.Open(filepath.Join(c.dataDir, "floor"), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return 0, errors.New("open the counter: " + err.Error())
	}
	if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
		return 0, errors.New("lock the counter: " + err.Error())
	}
	number := []byte{0, 1}
	if _, err := unix.Pread(fd, number, 0); err != nil {
		return 0, errors.New("read the counter: " + err.Error())
	}
	next := binary.BigEndian.Uint16(number) + 1
	if next < 2 { // after 65535
		next = 2
	}
	if _, err := unix.Pwrite(fd, binary.BigEndian.AppendUint16(nil, next), 0); err != nil {
		return 0, errors.New("write the counter: " + err.Error())
	}
	return next, unix.Close(fd)
}

// bridge is the index of the bridge, which is made if it is missing.
func (c call) bridge(host socket) (int, error) {
	if index, err := host.index(bridgeName); err == nil {
		return index, nil
	}
	m := newMessage(unix.RTM_NEWLINK, create, ifInfo(0, unix.IFF_UP)...)
	m.attr(unix.IFLA_IFNAME, cString(bridgeName)...)
	info := m.begin(unix.IFLA_LINKINFO)
	m.attr(unix.IFLA_INFO_KIND, []byte("bridge")...)
	m.end(info)
	if err := host.do(m); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, errors.New("bridge: " + err.Error())
	}
	index, err := host.index(bridgeName)
	if err != nil {
		return 0, errors.New("bridge: " + err.Error())
	}
	n := c.network()
	if err := host.do(n.address(index, n.addr(1), n.subnetBits)); err != nil {
		return 0, errors.New("gateway: " + err.Error())
	}
	return index, os.WriteFile(n.forward, []byte("1"), 0)
}

// veth makes the pair, the pod's end straight in its namespace.
func (c call) veth(master, pod int) message {
	m := newMessage(unix.RTM_NEWLINK, create|unix.NLM_F_EXCL, ifInfo(0, unix.IFF_UP)...)
	m.attr(unix.IFLA_IFNAME, cString(c.hostIf)...)
	if master != 0 {
		m.attr(unix.IFLA_MASTER, u32(master)...)
	}
	info := m.begin(unix.IFLA_LINKINFO)
	m.attr(unix.IFLA_INFO_KIND, []byte("veth")...)
	data := m.begin(unix.IFLA_INFO_DATA)
	peer := m.begin(vethInfoPeer)
	m = append(m, ifInfo(0, 0)...)
	m.attr(unix.IFLA_IFNAME, cString(c.ifName)...)
	m.attr(unix.IFLA_NET_NS_FD, u32(pod)...)
	m.end(peer)
	m.end(data)
	m.end(info)
	return m
}

// hostSide gives the host's end of a routed pair the gateway's address and the route to the pod.
func (c call) hostSide(host socket, number uint16) error {
	if c.role == "bridge" {
		return nil
	}
	index, err := host.index(c.hostIf)
	if err != nil {
		return errors.New("veth: " + err.Error())
	}
	n := c.network()
	if err := host.do(n.address(index, n.addr(1), n.hostBits), n.route(index, n.addr(number), n.hostBits, nil)); err != nil {
		return errors.New("host side: " + err.Error())
	}
	if number == 2 {
		return os.WriteFile(n.forward, []byte("1"), 0)
	}
	return nil
}

// podSide changes over to the pod's namespace and gives its end the address and routes.
func (c call) podSide(pod int, number uint16) error {
	if err := unix.Setns(pod, unix.CLONE_NEWNET); err != nil {
		return errors.New("setns: " + err.Error())
	}
	s, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	index, err := s.index(c.ifName)
	if err != nil {
		return errors.New("pod side: " + err.Error())
	}
	n := c.network()
	up := newMessage(unix.RTM_NEWLINK, request, ifInfo(index, unix.IFF_UP)...)
	gateway, all := n.addr(1), make([]byte, len(n.base))
	var steps []message
	if c.role == "bridge" {
		steps = []message{up, n.address(index, n.addr(number), n.subnetBits), n.route(index, all, 0, gateway)}
	} else {
		steps = []message{
			up, n.address(index, n.addr(number), n.hostBits), n.route(index, gateway, n.hostBits, nil), n.route(index, all, 0, gateway),
		}
	}
	if err := s.do(steps...); err != nil {
		return errors.New("pod side: " + err.Error())
	}
	return nil
}

func (n network) address(index int, addr []byte, bits byte) message {
	m := newMessage(unix.RTM_NEWADDR, create, append([]byte{n.family, bits, unix.IFA_F_NODAD, 0}, u32(index)...)...)
	m.attr(unix.IFA_LOCAL, addr...)
	m.attr(unix.IFA_ADDRESS, addr...)
	return m
}

func (n network) route(index int, to []byte, bits byte, gateway []byte) message {
	scope := byte(unix.RT_SCOPE_UNIVERSE)
	if gateway == nil && n.family == unix.AF_INET {
		scope = unix.RT_SCOPE_LINK
	}
	m := newMessage(unix.RTM_NEWROUTE, create,
		n.family, bits, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, scope, unix.RTN_UNICAST, 0, 0, 0, 0)
	if bits > 0 {
		m.attr(unix.RTA_DST, to...)
	}
	if gateway != nil {
		m.attr(unix.RTA_GATEWAY, gateway...)
	}
	m.attr(unix.RTA_OIF, u32(index)...)
	return m
}

// element adds a pod's address to the set of those that are masqueraded, or removes it.
func element(kind, flags int, addr []byte) []message {
	batch := func(kind int) message { return newMessage(kind, 0, 0, 0, 0, unix.NFNL_SUBSYS_NFTABLES) }
	m := newMessage(unix.NFNL_SUBSYS_NFTABLES<<8|kind, request|flags, unix.NFPROTO_IPV4, 0, 0, 0)
	m.attr(unix.NFTA_SET_ELEM_LIST_TABLE, cString("floor")...)
	m.attr(unix.NFTA_SET_ELEM_LIST_SET, cString("pods")...)
	elements := m.begin(unix.NFTA_SET_ELEM_LIST_ELEMENTS | unix.NLA_F_NESTED)
	one := m.begin(unix.NFTA_LIST_ELEM | unix.NLA_F_NESTED)
	key := m.begin(unix.NFTA_SET_ELEM_KEY | unix.NLA_F_NESTED)
	m.attr(unix.NFTA_DATA_VALUE, addr...)
	m.end(key)
	m.end(one)
	m.end(elements)
	return []message{batch(unix.NFNL_MSG_BATCH_BEGIN), m, batch(unix.NFNL_MSG_BATCH_END)}
}

// del removes the link and the element, whose address the previous result tells.
func (c call) del() error {
	if c.masquerade {
		addr, err := parse4(c.address)
		if err != nil {
			return err
		}
		filter, err := open(unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		if err := filter.do(element(unix.NFT_MSG_DELSETELEM, 0, addr)...); err != nil {
			return errors.New("element: " + err.Error())
		}
	}
	host, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	m := newMessage(unix.RTM_DELLINK, request, ifInfo(0, 0)...)
	m.attr(unix.IFLA_IFNAME, cString(c.hostIf)...)
	if err := host.do(m); err != nil {
		return errors.New("link: " + err.Error())
	}
	return nil
}

func parse4(prefix string) ([]byte, error) {
	text, _, _ := strings.Cut(prefix, "/")
	var addr []byte
	for _, part := range strings.Split(text, ".") {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil {
			return nil, errors.New("address " + prefix + ": " + err.Error())
		}
		addr = append(addr, byte(n))
	}
	return addr, nil
}
