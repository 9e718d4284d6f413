package roles

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
)

// newDelegate looks the ipam plugin up as a runtime would: the first file of that name in CNI_PATH. If that is this very executable,
// the role is called in process; anything else, a foreign program that bears the name of one of our roles included, is started. A
// host without the farm of symlinks has none of either: then our own role serves.
//
// A type that cannot be found fails each call, not this one: DEL cleans up what it can first.
func newDelegate(r *Request, kind string, valid []Attachment, run *runner) Delegate {
	if kind != filepath.Base(kind) || kind == "." || kind == ".." {
		return failing{errcode.Errorf(errcode.InvalidConfig, "ipam.type: %q is a path, not a plugin's name", kind)}
	}
	path := findPlugin(kind, r.Path)
	own := run.table[kind]
	switch {
	case own != nil && (path == "" || isSelf(path)):
		return &inProcess{role: own, request: r, valid: valid}
	case path == "":
		return failing{errcode.Errorf(errcode.InvalidConfig, "ipam.type: no plugin %q in CNI_PATH (%s)", kind, r.Path)}
	}
	return &program{path: path, kind: kind, request: r, stderr: run.Stderr}
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

func isSelf(path string) bool {
	found, err := os.Stat(path)
	if err != nil {
		return false
	}
	self, err := os.Stat("/proc/self/exe")
	return err == nil && os.SameFile(found, self)
}

// undoAdd puts the delegated DEL on the undo list, before ADD is called: an ADD that fails halfway, or whose answer is lost, may have
// reserved an address all the same (CNI spec, section 4).
func undoAdd(r *Request, d Delegate) {
	r.Undo.Push("delegated ADD", func() error { return d.Del(context.Background()) })
}

// inProcess is a delegate that is one of our own roles.
type inProcess struct {
	role    Role
	request *Request
	valid   []Attachment
}

// call is the request as the delegate sees it: the same, but for an undo list of its own, since its inverse as a whole is DEL.
func (d *inProcess) call() *Request {
	c := *d.request
	c.IPAM = nil
	c.Undo = &netutil.Undo{}
	return &c
}

func (d *inProcess) Add(ctx context.Context) (*types100.Result, error) {
	undoAdd(d.request, d)
	return d.role.Add(ctx, d.call())
}

func (d *inProcess) Check(ctx context.Context) error  { return d.role.Check(ctx, d.call()) }
func (d *inProcess) Del(ctx context.Context) error    { return d.role.Del(ctx, d.call()) }
func (d *inProcess) GC(ctx context.Context) error     { return d.role.GC(ctx, d.call(), d.valid) }
func (d *inProcess) Status(ctx context.Context) error { return d.role.Status(ctx, d.call()) }

// failing is a delegate that could not be found.
type failing struct{ err error }

func (f failing) Add(context.Context) (*types100.Result, error) { return nil, f.err }
func (f failing) Check(context.Context) error                   { return f.err }
func (f failing) Del(context.Context) error                     { return f.err }
func (f failing) GC(context.Context) error                      { return f.err }
func (f failing) Status(context.Context) error                  { return f.err }
