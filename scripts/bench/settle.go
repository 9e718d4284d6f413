package main

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/nstest"
	"github.com/cnibox/cnibox/scripts/private"
)

// settle waits until the kernel has taken the namespaces away that were given up so far; it does so by and by, and would disturb the next
// case. They go in order, so it is done when the link to a last one goes.
func settle() error {
	const link = "settle"
	last := private.NetNS(link)
	if err := nstest.Create(last); err != nil {
		return err
	}
	changes, stop := make(chan netlink.LinkUpdate, 1024), make(chan struct{})
	defer close(stop)
	if err := netlink.LinkSubscribe(changes, stop); err != nil {
		return err
	}
	if err := run("ip link add " + link + " type veth peer name eth0 netns " + last); err != nil {
		return err
	}
	if err := removeNetNS(last); err != nil {
		return err
	}
	timeout := time.After(3 * time.Minute)
	for {
		select {
		case change, ok := <-changes:
			if !ok {
				return errors.New("lost the kernel's link messages")
			}
			if change.Header.Type == unix.RTM_DELLINK && change.Attrs().Name == link {
				return nil
			}
		case <-timeout:
			return errors.New("the kernel does not take the namespaces away")
		}
	}
}
