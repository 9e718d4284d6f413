package roles

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// This file checks keys that several roles share.

// CheckMTU checks the key mtu, in bytes; 0 stands for the kernel's default.
func CheckMTU(mtu int) error {
	const (
		least = 68 // RFC 791: what every link must carry
		most  = 65535
	)
	if mtu != 0 && (mtu < least || mtu > most) {
		return errcode.Errorf(errcode.InvalidConfig, "mtu: %d is not within %d and %d", mtu, least, most)
	}
	return nil
}

// CheckMTUFor checks the key mtu for an interface with these addresses: the kernel takes IPv6 off one whose MTU is too small for it.
func CheckMTUFor(ips []IP, mtu int) error {
	const least = 1280 // RFC 8200, section 5
	if mtu != 0 && mtu < least && slices.ContainsFunc(ips, IP.Is6) {
		return errcode.Errorf(errcode.InvalidConfig, "mtu: %d is less than %d, which IPv6 needs", mtu, least)
	}
	return nil
}

// CheckLinkName checks the name of an interface that a key of the configuration holds (linux/net/core/dev.c, dev_valid_name).
func CheckLinkName(key, name string) error {
	const longest = 15 // IFNAMSIZ less the final NUL, in bytes
	if name == "" || len(name) > longest || name == "." || name == ".." {
		return errcode.Errorf(errcode.InvalidConfig, "%s: %q is no interface name of 1 to %d bytes", key, name, longest)
	}
	if name == "all" || name == "default" { // net.ipv4.conf has folders of these names
		return errcode.Errorf(errcode.InvalidConfig, "%s: %q is a name that the kernel keeps for itself", key, name)
	}
	if !utf8.ValidString(name) { // no result could tell it
		return errcode.Errorf(errcode.InvalidConfig, "%s: %q is no UTF-8", key, name)
	}
	for _, c := range []byte(name) {
		if c == '/' || c == ':' || c == '%' || c <= ' ' || c == 0x7f {
			return errcode.Errorf(errcode.InvalidConfig, "%s: %q has a character that no interface name may have", key, name)
		}
	}
	return nil
}

// CheckMasqueradeBackend checks the key ipMasqBackend. The reference's values are both accepted; what is written is nftables, always.
func CheckMasqueradeBackend(value string) error {
	switch value {
	case "", "iptables", "nftables":
		return nil
	}
	return errcode.Errorf(errcode.InvalidConfig, "ipMasqBackend: %q is neither iptables nor nftables", value)
}

// ParseMAC reads a MAC address that the key (named in the error) holds: 6 bytes, unicast, not all zero.
func ParseMAC(key, value string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(value)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || bytes.Equal(mac, make([]byte, 6)) {
		return nil, errcode.Errorf(errcode.InvalidConfig, "%s: %q is no unicast MAC address of 6 bytes", key, value)
	}
	return mac, nil
}

// MACWishes are the keys of a configuration in which somebody may ask for the MAC address of the container's interface.
type MACWishes struct {
	RuntimeConfig struct {
		MAC string `json:"mac" doc:"capability 'mac': MAC address, before all others"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			MAC string `json:"mac" doc:"MAC address"`
		} `json:"cni"`
	} `json:"args"`
}

// ChooseMAC is the first of runtimeConfig.mac, args.cni.mac, and MAC in CNI_ARGS that is there; nil if none is.
func (w *MACWishes) ChooseMAC(cniArgs string) (net.HardwareAddr, error) {
	args, err := ParseArgs(cniArgs)
	if err != nil {
		return nil, err
	}
	for _, wish := range []struct {
		key, value string
		code       uint
	}{
		{"runtimeConfig.mac", w.RuntimeConfig.MAC, errcode.InvalidConfig},
		{"args.cni.mac", w.Args.CNI.MAC, errcode.InvalidConfig},
		{"CNI_ARGS MAC", args["MAC"], errcode.InvalidEnvironment},
	} {
		if wish.value = strings.TrimSpace(wish.value); wish.value == "" {
			continue
		}
		mac, err := ParseMAC(wish.key, wish.value)
		if err != nil {
			return nil, errcode.Errorf(wish.code, "%s", err.Error())
		}
		return mac, nil
	}
	return nil, nil
}
