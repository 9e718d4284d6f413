package flannel

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/record"
	"github.com/cnibox/cnibox/roles"
)

// The delegate's configuration is saved for DEL, when the node's subnet may be another: in the file of the reference plugin, which is named by the
// container ID alone. A second interface of the container has a file of its own.

// ifNameKey stands in a saved configuration, to tell whose of a container's interfaces it is.
const ifNameKey = "cni.dev/cnibox-ifname"

// files are the names under which the attachment's configuration may be, the likelier first.
func files(o owner.Owner) [2]string {
	return [2]string{record.Name(owner.Owner{ContainerID: o.ContainerID, Network: o.Network}, "", ""), record.Name(o, "_", "")}
}

// isOf tells whether a saved configuration is the attachment's. The reference's does not tell the interface.
func (k keys) isOf(o owner.Owner) bool {
	var network, ifName string
	if json.Unmarshal(k["name"], &network) != nil || network != o.Network {
		return false
	}
	return k[ifNameKey] == nil || json.Unmarshal(k[ifNameKey], &ifName) == nil && ifName == o.IfName
}

// find is the attachment's saved configuration and its file; nil if there is none, or none that can be read.
func find(d record.Folder, o owner.Owner) (saved keys, name string, err error) {
	for _, name := range files(o) {
		text, err := d.Read(name)
		if err != nil {
			return nil, "", err
		}
		var k keys
		if text != nil && json.Unmarshal(text, &k) == nil && k.isOf(o) {
			return k, name, nil
		}
	}
	return nil, "", nil
}

// save writes the configuration, under the name that no other attachment's has, and records the inverse.
func save(d record.Folder, r *roles.Request, k keys) error {
	old, name, err := find(d, r.Owner)
	if err != nil {
		return err
	}
	if old == nil {
		names := files(r.Owner)
		if name = names[0]; taken(d, name) {
			name = names[1]
		}
	}
	marked := keys{}
	for key, value := range k {
		marked[key] = value
	}
	marked[ifNameKey], err = json.Marshal(r.Owner.IfName)
	var text []byte
	if err == nil {
		text, err = json.Marshal(marked)
	}
	if err != nil {
		return errcode.Errorf(errcode.Internal, "encode the delegate's configuration: %w", err)
	}
	if old == nil { // else it is an earlier ADD's, which may run on
		r.Undo.Push("saved configuration", func() error { return d.Remove(name) })
	}
	return d.Write(name, text)
}

// taken tells whether a file is another attachment's. What is no configuration, as after a crash, is nobody's.
func taken(d record.Folder, name string) bool {
	text, err := d.Read(name)
	var k keys
	return err != nil || text != nil && json.Unmarshal(text, &k) == nil && k["name"] != nil
}

// collect removes saved configurations of the network's attachments that are not valid. Those that do not tell their interface are the
// reference's; they go if no interface of their container is valid.
func collect(d record.Folder, network string, valid []roles.Attachment) error {
	names, err := d.Names("")
	errs := []error{err, d.TidyAll()}
	for _, name := range names {
		text, err := d.Read(name)
		var k keys
		if err != nil || json.Unmarshal(text, &k) != nil {
			continue
		}
		keep := false
		for _, v := range valid {
			o := owner.Owner{Network: network, ContainerID: v.ContainerID, IfName: v.IfName}
			f := files(o)
			keep = keep || (name == f[0] || name == f[1]) && k.isOf(o)
		}
		var of string
		if !keep && json.Unmarshal(k["name"], &of) == nil && of == network && !strings.HasPrefix(name, ".") {
			errs = append(errs, d.Remove(name))
		}
	}
	return errors.Join(errs...)
}
