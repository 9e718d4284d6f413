package explain

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/cnibox/cnibox/netutil/nft"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nft/eval"
	"github.com/cnibox/cnibox/netutil/rawnl"
)

// What linux/inet_diag.h and linux/sock_diag.h have beyond package unix.
const (
	sockDiagByFamily = 20
	diagRequest      = 56 // struct inet_diag_req_v2
	diagAnswer       = 72 // struct inet_diag_msg
	stateListen      = 10 // TCP_LISTEN
	stateClose       = 7  // TCP_CLOSE: of UDP sockets that are not connected
)

// listens says whether a program takes the packet: "tcp 8080 listens". Empty if that cannot be told.
func (s *space) listens(p *eval.Packet) string {
	var states uint32
	switch p.Proto {
	case unix.IPPROTO_TCP:
		states = 1 << stateListen
	case unix.IPPROTO_UDP:
		states = 1 << stateClose
	default:
		return ""
	}
	if p.Reply || p.DstPort == 0 {
		return ""
	}
	sock, err := s.socket(unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return ""
	}
	defer sock.Close()
	what := fmt.Sprintf("%s %d", nft.ProtocolName(p.Proto), p.DstPort)
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		body := make([]byte, diagRequest)
		body[0], body[1] = family, p.Proto
		binary.NativeEndian.PutUint32(body[4:], states)
		answer, err := rawnl.Dump(sock.Exchange, rawnl.Message{Type: sockDiagByFamily, Flags: unix.NLM_F_DUMP, Body: body})
		if err != nil || answer.Err != nil {
			return ""
		}
		for _, b := range answer.Bodies {
			if takes(b, p) {
				return what + " listens"
			}
		}
	}
	return "nothing listens on " + what
}

// takes tells whether a socket, as struct inet_diag_msg tells of it, is one for the packet.
func takes(b []byte, p *eval.Packet) bool {
	if len(b) < diagAnswer || binary.BigEndian.Uint16(b[4:]) != p.DstPort {
		return false
	}
	size := 16
	if b[0] == unix.AF_INET {
		size = 4
	}
	addr, _ := netip.AddrFromSlice(b[8 : 8+size])
	addr = addr.Unmap()
	if b[0] == unix.AF_INET && p.Is6() {
		return false
	}
	return addr.IsUnspecified() && (addr.Is4() == p.Dst.Is4() || addr.Is6()) || addr == p.Dst
}
