package roles

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/trace"
)

// Delegate is the plugin that ipam.type names, run in process or as a program, with the request's own configuration.
type Delegate struct {
	call func(ctx context.Context, verb string) (*types100.Result, error) // only ADD has a result
	undo *netutil.Undo
	own  bool // one of our own roles
	kind string
}

// NeedsLink tells that the plugin asks the container's own network for an address, so that the interface must be there and up before. The
// others are asked first, so that an interface is made for an address that there is.
func (d *Delegate) NeedsLink() bool { return d != nil && d.kind == "dhcp" }

// linkIPv6 are the sysctls of an interface over which the plugin is to ask for an IPv6 address, for which it needs its link-local one.
func linkIPv6(r *Request) []netutil.Sysctl {
	var c struct {
		EnableDAD bool `json:"enabledad"`
		IPAM      struct {
			Families []string `json:"families"`
		} `json:"ipam"`
	}
	if err := Decode(r.Conf, &c, true); err != nil || !slices.Contains(c.IPAM.Families, "ipv6") {
		return nil
	}
	return PlanIPv6(netutil.Sandbox, r.Owner.IfName, []IP{{Prefix: netip.PrefixFrom(netip.IPv6Unspecified(), 0)}}, c.EnableDAD)
}

// Add asks for addresses. Its inverse is on the request's undo list before it is called: an ADD that fails halfway, or whose answer is
// lost, may have reserved an address all the same (CNI spec, section 4).
func (d *Delegate) Add(ctx context.Context) (*types100.Result, error) {
	existed := false
	d.undo.Push("delegated ADD", func() error {
		if existed { // the addresses are those of an earlier ADD, which runs on
			return nil
		}
		return d.Del(context.Background())
	})
	res, err := d.call(ctx, verbAdd)
	existed = d.own && err != nil && errcode.Of(err) == errcode.AlreadyExists
	return res, err
}

// Check, Del, GC and Status pass the verb on.
func (d *Delegate) Check(ctx context.Context) error  { return d.pass(ctx, verbCheck) }
func (d *Delegate) Del(ctx context.Context) error    { return d.pass(ctx, verbDel) }
func (d *Delegate) GC(ctx context.Context) error     { return d.pass(ctx, verbGC) }
func (d *Delegate) Status(ctx context.Context) error { return d.pass(ctx, verbStatus) }

func (d *Delegate) pass(ctx context.Context, verb string) error {
	_, err := d.call(ctx, verb)
	return err
}

// delegate makes the request's ipam plugin ready, if the configuration has one. A type that cannot be found fails each call, not this
// one: DEL cleans up what it can first.
func (r *Request) delegate(conf *common) {
	kind := conf.IPAM.Type
	if kind == "" {
		return
	}
	d := &Delegate{undo: r.Undo, kind: kind}
	own, path, err := lookUp(r, "ipam.type", kind)
	switch {
	case err != nil:
		d.call = func(context.Context, string) (*types100.Result, error) { return nil, err }
	case own:
		d.own, d.call = true, inProcess(kind, r)
	default:
		d.call = (&program{path: path, at: "ipam.type " + kind, request: r}).call
	}
	r.IPAM = d
}

// lookUp finds a plugin as a runtime would: the first file of that name in CNI_PATH. If that is this very executable, the role is to be
// called in process; anything else, a foreign program that bears the name of one of our roles included, is to be started. A host without
// the farm of symlinks has none of either: then our own role serves. key is where the configuration has the name.
func lookUp(r *Request, key, kind string) (own bool, path string, err error) {
	if kind != filepath.Base(kind) || kind == "/" || kind == "." || kind == ".." {
		return false, "", errcode.Errorf(errcode.InvalidConfig, "%s: %q is a path, not a plugin's name", key, kind)
	}
	path = findPlugin(kind, r.Path)
	switch {
	case r.run.table[kind] != nil && (path == "" || isSelf(path)):
		return true, "", nil
	case path == "":
		return false, "", errcode.Errorf(errcode.InvalidConfig, "%s: no plugin %q in CNI_PATH (%s)", key, kind, r.Path)
	}
	return false, path, nil
}

// inProcess calls one of our own roles with the same request, but for an undo list of its own, since its inverse as a whole is DEL.
func inProcess(name string, r *Request) func(context.Context, string) (*types100.Result, error) {
	return func(ctx context.Context, verb string) (*types100.Result, error) {
		c := *r
		c.IPAM, c.Undo = nil, &netutil.Undo{}
		return perform(ctx, name, verb, &c)
	}
}

// perform calls the method of one of our own roles for the verb.
func perform(ctx context.Context, name, verb string, r *Request) (*types100.Result, error) {
	defer trace.Start("role", verb, name).End()
	role := r.run.table[name]
	switch verb {
	case verbAdd:
		return role.Add(ctx, r)
	case verbCheck:
		return nil, role.Check(ctx, r)
	case verbDel:
		return nil, role.Del(ctx, r)
	case verbGC:
		return nil, role.GC(ctx, r, r.run.valid)
	default:
		return nil, role.Status(ctx, r)
	}
}

// findPlugin is the first regular file of that name in a list of folders; empty if there is none.
func findPlugin(name, path string) string {
	for dir := range strings.SplitSeq(path, string(os.PathListSeparator)) {
		if dir == "" {
			continue
		}
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file
		}
	}
	return ""
}

// selfPath is the kernel's link to the running program.
const selfPath = "/proc/self/exe"

func isSelf(path string) bool {
	found, err := os.Stat(path)
	if err != nil {
		return false
	}
	if self, err := os.Stat(selfPath); err == nil && os.SameFile(found, self) {
		return true
	}
	// qemu's user mode shows a program its own file when it is opened, and else itself.
	file, err := os.Open(selfPath)
	if err != nil {
		return false
	}
	defer func() { _ = file.Close() }()
	self, err := file.Stat()
	return err == nil && os.SameFile(found, self)
}
