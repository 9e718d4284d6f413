package tuning

import (
	"encoding/json"
	"errors"
	"net"
	"slices"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
	"github.com/cnibox/cnibox/roles"
)

// saved is what an attachment was before: the file of the reference plugin, with the sysctls and the owner as well. What is not in it was not
// changed.
type saved struct {
	MAC      string `json:"mac,omitempty"`
	Promisc  *bool  `json:"promisc,omitempty"`
	MTU      int    `json:"mtu,omitempty"`
	AllMulti *bool  `json:"allmulti,omitempty"`
	TxQLen   *int   `json:"txQLen,omitempty"`

	Sysctl      []savedSysctl `json:"sysctl,omitempty"`
	Network     string        `json:"network,omitempty"`
	ContainerID string        `json:"containerID,omitempty"`
	IfName      string        `json:"ifName,omitempty"`
}

type savedSysctl struct {
	Path  []string `json:"path"` // below /proc/sys
	Value string   `json:"value"`
}

const ending = ".json"

// fileOf is the name of the attachment's file, which is the reference's.
func fileOf(o owner.Owner) string { return record.Name(o, "_", ending) }

// read is the attachment's record; nil if there is none, or none that can be read.
func read(d record.Folder, o owner.Owner) (*saved, error) {
	text, err := d.Read(fileOf(o))
	if text == nil || err != nil {
		return nil, err
	}
	s := &saved{}
	if json.Unmarshal(text, s) != nil {
		return nil, nil // a crash of the reference plugin can leave a part of it
	}
	return s, nil
}

// note adds what an attachment has now of what is to be changed. What a record has already was noted before it was first changed.
func (s *saved) note(c *conf, link *netutil.Settings, sysctl []netutil.Sysctl, o owner.Owner) {
	s.Network, s.ContainerID, s.IfName = o.Network, o.ContainerID, o.IfName
	if c.link.MAC != nil && s.MAC == "" {
		s.MAC = link.MAC.String()
	}
	if c.link.MTU != 0 && s.MTU == 0 {
		s.MTU = link.MTU
	}
	if c.link.Promisc != nil && s.Promisc == nil {
		s.Promisc = link.Promisc
	}
	if c.link.AllMulti != nil && s.AllMulti == nil {
		s.AllMulti = link.AllMulti
	}
	if c.link.TxQLen != nil && s.TxQLen == nil {
		s.TxQLen = link.TxQLen
	}
	for _, have := range sysctl {
		if !slices.ContainsFunc(s.Sysctl, func(x savedSysctl) bool { return slices.Equal(x.Path, have.Path) }) {
			s.Sysctl = append(s.Sysctl, savedSysctl{have.Path, have.Value})
		}
	}
}

func (s *saved) write(d record.Folder, o owner.Owner) error {
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return errcode.Errorf(errcode.Internal, "encode the record: %w", err)
	}
	return d.Write(fileOf(o), text)
}

// restore puts back what the record says, each that it can. An interface that is gone needs nothing.
func (s *saved) restore(sandbox *netutil.Namespace, ifName string) error {
	var sysctl []netutil.Sysctl
	for i := len(s.Sysctl) - 1; i >= 0; i-- {
		if x := s.Sysctl[i]; sound(x.Path) {
			sysctl = append(sysctl, netutil.Sysctl{Path: x.Path, Value: x.Value})
		}
	}
	link, err := netutil.SettingsOf(sandbox, ifName)
	errs := []error{err}
	if link != nil {
		back := netutil.Settings{MTU: s.MTU, Promisc: s.Promisc, AllMulti: s.AllMulti, TxQLen: s.TxQLen}
		back.MAC, _ = net.ParseMAC(s.MAC)
		errs = append(errs, back.Set(sandbox, ifName))
	}
	return errors.Join(append(errs, netutil.RestoreSysctls(sandbox, sysctl))...)
}

// sound tells whether a path of a file that others could have written to leads to one of the network's sysctls.
func sound(path []string) bool {
	bad := func(part string) bool {
		return part == "" || part == "." || part == ".." || slices.Contains([]byte(part), '/')
	}
	return len(path) > 1 && path[0] == "net" && !slices.ContainsFunc(path, bad)
}

// collect removes the records of the network's attachments that are not valid.
func collect(d record.Folder, network string, valid []roles.Attachment) error {
	names, err := d.Names(ending)
	errs := []error{err, d.TidyAll()}
	for _, name := range names {
		text, err := d.Read(name)
		s := saved{}
		if err != nil || json.Unmarshal(text, &s) != nil || s.Network != network {
			continue
		}
		if !slices.Contains(valid, roles.Attachment{ContainerID: s.ContainerID, IfName: s.IfName}) {
			errs = append(errs, d.Remove(name))
		}
	}
	return errors.Join(errs...)
}
