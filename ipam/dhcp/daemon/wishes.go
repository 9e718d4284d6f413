package daemon

import (
	"fmt"
	"slices"
	"strconv"
)

// The families of addresses, as the key ipam.families has them.
const (
	IPv4 = "ipv4"
	IPv6 = "ipv6"
)

// Wishes are the keys of a configuration about what is said to a server, and asked of it.
type Wishes struct {
	Families []string  `json:"families" enum:"ipv4,ipv6" default:"[\"ipv4\"]" doc:"'ipv4', 'ipv6': of each of them an address is needed"` // none: IPv4
	Request  []Request `json:"request" doc:"DHCP options that the server is asked for: '[{ \"option\": \"routers\" }]'"`
	Provide  []Provide `json:"provide" doc:"DHCP options that the server is told: '[{ \"option\": \"host-name\", \"value\": \"x\" }]'"`
	Priority int       `json:"priority" min:"0" max:"2147483647" default:"0" doc:"metric of the IPv4 routes; 0 is the kernel's choice"` // of the routes
}

// Request is an option that the server is asked for. SkipDefault leaves out those that are asked for otherwise.
type Request struct {
	SkipDefault bool   `json:"skipDefault" default:"false" doc:"in one of them: only these"`
	Option      string `json:"option" doc:"name or number, 1 to 254"`
}

// Provide is an option that the server is told, with the value or with that of a key in CNI_ARGS.
type Provide struct {
	Option  string `json:"option" required:"true" doc:"name or number, 1 to 254"`
	Value   string `json:"value" doc:"at most 255 bytes"`
	FromArg string `json:"fromArg" doc:"the value is that of this key in CNI_ARGS, such as 'K8S_POD_NAME'"`
}

// Check checks the keys; the error begins with the key.
func (w *Wishes) Check() error {
	for i, f := range w.Families {
		if f != IPv4 && f != IPv6 {
			return fmt.Errorf("families[%d]: %q is neither %s nor %s", i, f, IPv4, IPv6)
		}
		if slices.Contains(w.Families[:i], f) {
			return fmt.Errorf("families[%d]: %q is there twice", i, f)
		}
	}
	for i, r := range w.Request {
		if _, err := optionCode(r.Option); err != nil && r.Option != "" {
			return fmt.Errorf("request[%d].option: %w", i, err)
		}
	}
	for i, p := range w.Provide {
		if _, err := optionCode(p.Option); err != nil {
			return fmt.Errorf("provide[%d].option: %w", i, err)
		}
		if len(p.Value) > mostValue {
			return fmt.Errorf("provide[%d].value: %d bytes are more than %d", i, len(p.Value), mostValue)
		}
	}
	if w.Priority < 0 || w.Priority > 1<<31-1 {
		return fmt.Errorf("priority: %d is not within 0 and %d", w.Priority, 1<<31-1)
	}
	return nil
}

// mostValue is what an option holds, in bytes (RFC 2132, section 2).
const mostValue = 255

// optionCode reads an option: its name in dhcp-options(5), for a few, or its number.
func optionCode(name string) (uint8, error) {
	switch name {
	case "subnet-mask":
		return 1, nil
	case "routers":
		return 3, nil
	case "host-name":
		return 12, nil
	case "vendor-class-identifier":
		return 60, nil
	case "dhcp-client-identifier":
		return 61, nil
	case "user-class":
		return 77, nil
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil || n == 0 || n == 255 {
		return 0, fmt.Errorf("%q is neither a number from 1 to 254 nor a name that is known", name)
	}
	return uint8(n), nil
}

// Wanted are the families of which an address is needed.
func (w *Wishes) Wanted() []string {
	if len(w.Families) == 0 {
		return []string{IPv4}
	}
	return w.Families
}
