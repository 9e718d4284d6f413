package portmap

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/nft"
	"github.com/cnibox/cnibox/roles"
)

// The keys of a condition, as nft calls them.
const (
	condSource = "saddr"
	condDest   = "daddr"
	condInput  = "iifname"
	condMark   = "mark"
)

// conditionParser reads the words of one of the keys conditionsV4 and conditionsV6.
type conditionParser struct {
	key   string // for errors
	is6   bool
	words []string // that are left
}

// parseConditions reads conditions in the words of iptables or of nft, of which the list holds one or several in each of its strings.
func parseConditions(key string, list []string, is6 bool) ([]nft.Condition, error) {
	p := &conditionParser{key: key, is6: is6, words: strings.Fields(strings.Join(list, " "))}
	var out []nft.Condition
	for len(p.words) > 0 {
		c, always, err := p.condition()
		if err != nil {
			return nil, err
		}
		if always && c.Negate {
			return nil, invalid("%s: no packet ever meets \"not %s %s\"", key, c.Key, c.Value)
		}
		if !always {
			out = append(out, c)
		}
	}
	return out, nil
}

// next takes a word off; empty at the end.
func (p *conditionParser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word
}

// skip takes the next word off if it is this one.
func (p *conditionParser) skip(word string) bool {
	if len(p.words) == 0 || p.words[0] != word {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *conditionParser) unsupported(word string) error {
	return errcode.Errorf(errcode.UnsupportedField, "%s: %q is none of the words of iptables or nft for source, destination, input interface and mark",
		p.key, word)
}

// condition reads one condition; always tells that every packet meets it.
func (p *conditionParser) condition() (c nft.Condition, always bool, err error) {
	if word := p.words[0]; word == "!" || strings.HasPrefix(word, "-") {
		return p.iptables()
	}
	return p.nft()
}

// iptables reads one condition in the words of iptables-extensions(8).
func (p *conditionParser) iptables() (c nft.Condition, always bool, err error) {
	c.Negate = p.skip("!")
	switch word := p.next(); word {
	case "-s", "--source", "--src":
		c.Key = condSource
	case "-d", "--destination", "--dst":
		c.Key = condDest
	case "-i", "--in-interface":
		c.Key = condInput
	case "--mark":
		c.Key = condMark
	case "-m", "--match":
		// It only announces what follows.
		if match := p.next(); match != "mark" || c.Negate {
			return c, false, p.unsupported(word + " " + match)
		}
		return c, true, nil
	default:
		return c, false, p.unsupported(word)
	}
	value := p.next()
	if c.Key == condInput && strings.HasSuffix(value, "+") {
		value = strings.TrimSuffix(value, "+") + "*"
	}
	return p.valued(c, value)
}

// nft reads one condition in the words of nft(8).
func (p *conditionParser) nft() (c nft.Condition, always bool, err error) {
	word := p.next()
	switch word {
	case "ip", "ip6":
		if (word == "ip6") != p.is6 {
			return c, false, invalid("%s: %q is of the other family", p.key, word)
		}
		c.Key = p.next()
		if c.Key != condSource && c.Key != condDest {
			return c, false, p.unsupported(word + " " + c.Key)
		}
	case "meta":
		if c.Key = p.next(); c.Key != condMark && c.Key != condInput {
			return c, false, p.unsupported(word + " " + c.Key)
		}
	case condInput, condMark:
		c.Key = word
	default:
		return c, false, p.unsupported(word)
	}
	mask := ""
	if c.Key == condMark && (p.skip("&") || p.skip("and")) {
		mask = "/" + p.next()
	}
	switch {
	case p.skip("!="), p.skip("ne"):
		c.Negate = true
	case p.skip("=="), p.skip("eq"):
	}
	return p.valued(c, strings.Trim(p.next(), `"`)+mask)
}

// valued completes a condition by its value, in the form that the packet filter takes.
func (p *conditionParser) valued(c nft.Condition, value string) (_ nft.Condition, always bool, err error) {
	switch c.Key {
	case condInput:
		c.Value, always, err = p.input(value)
	case condMark:
		c.Value, always, err = p.mark(value)
	default:
		c.Value, always, err = p.prefix(value)
	}
	return c, always, err
}

// prefix reads an address, or one with the length of its prefix or (as iptables allows) with its mask. Host bits do not count.
func (p *conditionParser) prefix(value string) (prefix string, always bool, err error) {
	text, length, hasLength := strings.Cut(value, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return "", false, invalid("%s: %q is no IP address or prefix", p.key, value)
	}
	if addr.Is6() != p.is6 {
		return "", false, invalid("%s: %q is of the other family", p.key, value)
	}
	bits := addr.BitLen()
	if hasLength {
		bits = prefixLength(length)
	}
	out, err := addr.Prefix(bits)
	if err != nil {
		return "", false, invalid("%s: %q is no IP address or prefix", p.key, value)
	}
	return out.String(), bits == 0, nil
}

// prefixLength reads the length of a prefix, in bits or as a mask; -1 if it is neither.
func prefixLength(s string) int {
	if bits, err := strconv.ParseUint(s, 10, 8); err == nil {
		return int(bits)
	}
	mask, err := netip.ParseAddr(s)
	if err != nil {
		return -1
	}
	ones, size := net.IPMask(mask.AsSlice()).Size()
	if size == 0 { // the ones are not all in front
		return -1
	}
	return ones
}

// input reads an interface's name, or the beginning of one with "*" behind.
func (p *conditionParser) input(value string) (name string, always bool, err error) {
	if value == "*" {
		return value, true, nil
	}
	if strings.Contains(value, `"`) { // nft would write it so, but not read it
		return "", false, invalid("%s: %q has a quotation mark in an interface's name", p.key, value)
	}
	return value, false, roles.CheckLinkName(p.key, value)
}

// mark reads a mark, alone or with "/" and a mask behind. Bits outside of the mask would never be met.
func (p *conditionParser) mark(value string) (mark string, always bool, err error) {
	const all = 1<<32 - 1
	text, maskText, hasMask := strings.Cut(value, "/")
	number, err := strconv.ParseUint(text, 0, 32)
	mask := uint64(all)
	if err == nil && hasMask {
		mask, err = strconv.ParseUint(maskText, 0, 32)
	}
	if err != nil {
		return "", false, invalid("%s: %q is no mark, such as 0x1 or 0x1/0xff", p.key, value)
	}
	if number&^mask != 0 {
		return "", false, invalid("%s: the mark %q has bits outside of its mask", p.key, value)
	}
	mark = "0x" + strconv.FormatUint(number, 16)
	if mask != all {
		mark += "/0x" + strconv.FormatUint(mask, 16)
	}
	return mark, mask == 0, nil
}
