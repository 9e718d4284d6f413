// Package firewalld puts addresses into zones of firewalld, by D-Bus (firewalld.dbus(5)).
package firewalld

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/errcode"
)

const (
	bus       = "unix:path=/run/dbus/system_bus_socket"
	name      = "org.fedoraproject.FirewallD1"
	path      = "/org/fedoraproject/FirewallD1"
	zone      = name + ".zone."
	exception = name + ".Exception"

	patience = 30 * time.Second // a reload takes longer than a second where there are many rules
)

// Firewalld is a connection to it.
type Firewalld struct{ conn *dbus.Conn }

// Open connects to the system's bus, and sees that firewalld is there; if it is not, the error has the code errcode.NotAvailable.
func Open(ctx context.Context) (*Firewalld, error) {
	conn, err := dbus.Dial(bus)
	if err != nil {
		return nil, notAvailable(err)
	}
	f := &Firewalld{conn}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		f.Close()
		return nil, notAvailable(err)
	}
	if err := conn.Hello(); err != nil {
		f.Close()
		return nil, notAvailable(err)
	}
	var owner string
	// The bus would start it otherwise.
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetNameOwner", 0, name).Store(&owner); err != nil {
		f.Close()
		return nil, notAvailable(err)
	}
	return f, nil
}

func notAvailable(err error) error {
	return errcode.Errorf(errcode.NotAvailable, "firewalld: it does not run, or cannot be reached: %w", err)
}

// Absent tells whether an error of Open says that firewalld is not there: then no address is in any zone.
func Absent(err error) bool {
	var said dbus.Error
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) || errors.As(err, &said) && said.Name == "org.freedesktop.DBus.Error.NameHasNoOwner"
}

// Close ends the connection.
func (f *Firewalld) Close() { _ = f.conn.Close() }

// call calls a method of the interface for zones. said is what firewalld itself objected, such as "ZONE_CONFLICT: ...".
func (f *Firewalld) call(ctx context.Context, method string, into any, args ...any) (said string, err error) {
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	err = f.conn.Object(name, path).CallWithContext(ctx, zone+method, 0, args...).Store(into)
	var answer dbus.Error
	if errors.As(err, &answer) && answer.Name == exception && len(answer.Body) > 0 {
		said, _ = answer.Body[0].(string)
	}
	return said, err
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

// source is an address as firewalld has it in a zone.
func source(addr netip.Addr) string { return netip.PrefixFrom(addr, addr.BitLen()).String() }

// Missing are those of the addresses that are not in the zone.
func (f *Firewalld) Missing(ctx context.Context, zone string, addrs []netip.Addr) (missing []netip.Addr, err error) {
	var have []string
	said, err := f.call(ctx, "getSources", &have, zone)
	if err != nil {
		return nil, failure(zone, said, err)
	}
	for _, a := range addrs {
		if !slices.Contains(have, source(a)) {
			missing = append(missing, a)
		}
	}
	return missing, nil
}

// Add puts an address into the zone. It may be there already; in another it must not.
func (f *Firewalld) Add(ctx context.Context, zone string, addr netip.Addr) error {
	var in string
	said, err := f.call(ctx, "addSource", &in, zone, source(addr))
	if strings.HasPrefix(said, "ZONE_ALREADY_SET") || strings.HasPrefix(said, "ALREADY_ENABLED") {
		return nil
	}
	return failure(zone, said, err)
}

// Remove takes an address out of the zone, if it is there.
func (f *Firewalld) Remove(ctx context.Context, zone string, addr netip.Addr) error {
	var in string
	said, err := f.call(ctx, "removeSource", &in, zone, source(addr))
	for _, nothing := range []string{"NOT_ENABLED", "UNKNOWN_SOURCE", "ZONE_CONFLICT", "INVALID_ZONE"} { // it is in none, or in another
		if strings.HasPrefix(said, nothing) {
			return nil
		}
	}
	return failure(zone, said, err)
}
