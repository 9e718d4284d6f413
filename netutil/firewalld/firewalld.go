// Package firewalld puts addresses, subnets and links into zones of firewalld, by D-Bus (firewalld.dbus(5)).
package firewalld

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

const (
	socket    = "/run/dbus/system_bus_socket"
	name      = "org.fedoraproject.FirewallD1"
	path      = "/org/fedoraproject/FirewallD1"
	zones     = name + ".zone"
	exception = name + ".Exception"

	patience = 60 * time.Second // for all calls; a reload alone takes seconds where there are many rules
)

// Firewalld is a connection to it.
type Firewalld struct{ *bus }

// Open connects to the system's bus, and sees that firewalld is there; if it is not, the error has the code errcode.NotAvailable. All that
// is done there must be done in a minute, and before ctx ends.
func Open(ctx context.Context) (*Firewalld, error) {
	b, err := dialBus(ctx, socket, patience)
	if err != nil {
		return nil, notAvailable(err)
	}
	if _, err := b.call(busName, "/org/freedesktop/DBus", busName, "GetNameOwner", name); err != nil {
		_ = b.Close()
		return nil, notAvailable(err)
	}
	return &Firewalld{b}, nil
}

func notAvailable(err error) error {
	return errcode.Errorf(errcode.NotAvailable, "firewalld: it does not run, or cannot be reached: %w", err)
}

// Absent tells whether an error of Open says that firewalld is not there: then no address is in any zone.
func Absent(err error) bool {
	var said *busError
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) || errors.As(err, &said) && said.name == busName+".Error.NameHasNoOwner"
}

// call calls a method of the interface for zones. said is what firewalld itself objected, such as "ZONE_CONFLICT: ...".
func (f *Firewalld) call(method string, args ...string) (answer []string, said string, err error) {
	answer, err = f.bus.call(name, path, zones, method, args...)
	var e *busError
	if errors.As(err, &e) && e.name == exception {
		said = e.text
	}
	return answer, said, err
}

// failure is an error of a call for a zone.
func failure(zone, said string, err error) error {
	switch {
	case err == nil:
		return nil
	case strings.HasPrefix(said, "INVALID_ZONE"):
		return errcode.Errorf(errcode.InvalidConfig, "firewalldZone: firewalld has no zone %q", zone)
	case said != "":
		return errcode.Errorf(errcode.NotAvailable, "firewalld: zone %s: %s", zone, said)
	}
	return errcode.Errorf(errcode.NotAvailable, "firewalld: zone %s: %w", zone, err)
}

// kind is what firewalld calls a source of packets: a subnet, such as 192.0.2.1/32, or a link.
func kind(source string) string {
	if strings.Contains(source, "/") {
		return "Source"
	}
	return "Interface"
}

// Missing are those of the sources, subnets and names of links, that are not in the zone.
func (f *Firewalld) Missing(zone string, sources []string) (missing []string, err error) {
	have := map[string][]string{}
	for _, s := range sources {
		k := kind(s)
		if _, asked := have[k]; !asked {
			answer, said, err := f.call("get"+k+"s", zone)
			if err != nil {
				return nil, failure(zone, said, err)
			}
			have[k] = answer
		}
		if !slices.Contains(have[k], s) {
			missing = append(missing, s)
		}
	}
	return missing, nil
}

// Add puts a source into the zone. It may be there already; in another it must not.
func (f *Firewalld) Add(zone, source string) error {
	_, said, err := f.call("add"+kind(source), zone, source)
	if strings.HasPrefix(said, "ZONE_ALREADY_SET") || strings.HasPrefix(said, "ALREADY_ENABLED") {
		return nil
	}
	return failure(zone, said, err)
}

// Remove takes a source out of the zone, if it is there.
func (f *Firewalld) Remove(zone, source string) error {
	_, said, err := f.call("remove"+kind(source), zone, source)
	for _, nothing := range []string{"NOT_ENABLED", "UNKNOWN_SOURCE", "UNKNOWN_INTERFACE", "ZONE_CONFLICT", "INVALID_ZONE"} { // it is in none, or in another
		if strings.HasPrefix(said, nothing) {
			return nil
		}
	}
	return failure(zone, said, err)
}
