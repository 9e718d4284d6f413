package roles

import (
	"context"
	"encoding/json"
	"fmt"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Plugin is a plugin of a list (CNI spec, section 1, "plugins"), ready to be called for what the list itself is called for: one of our own
// roles in process, with the namespaces and the undo list of the request, or a program.
type Plugin struct {
	at      string // for errors
	kind    string
	request *Request
	program *program // nil: one of our own roles
}

// Plugin finds the plugin of a list that the key (named in errors) holds. conf is its configuration as a runtime makes it, but for what is
// said of the attachment itself: prevResult and the attachments that GC keeps are added here, where somebody needs them as text. It is read
// leniently as Decode does it.
func (r *Request) Plugin(key, kind string, conf []byte, lenient bool) (*Plugin, error) {
	own, path, err := lookUp(r, key+".type", kind)
	if err != nil {
		return nil, err
	}
	c := *r
	c.Conf, c.listed, c.IPAM = conf, true, nil
	p := &Plugin{at: key + " " + kind, kind: kind, request: &c}
	if !own {
		p.program = &program{path: path, at: p.at, request: &c}
		return p, nil
	}
	keys := &common{}
	if err := Decode(conf, keys, lenient); err != nil {
		return nil, fmt.Errorf("%s: %w", p.at, err)
	}
	c.delegate(keys)
	return p, nil
}

// Add hands on the result of the plugin before, nil if there is none. What one of our own roles does is on the request's undo list step
// by step, what a program does as a whole: as its DEL, which is there before the program is called.
func (p *Plugin) Add(ctx context.Context, prev *types100.Result) (*types100.Result, error) {
	p.request.Prev = prev
	if p.program != nil {
		p.request.Undo.Push("ADD of "+p.at, func() error {
			p.request.Prev = nil // of an ADD that failed there is no result
			return p.Del(context.Background())
		})
	}
	return p.call(ctx, verbAdd)
}

// Check, Del, GC and Status pass the verb on, with the request's own prevResult.
func (p *Plugin) Check(ctx context.Context) error  { return p.pass(ctx, verbCheck) }
func (p *Plugin) Del(ctx context.Context) error    { return p.pass(ctx, verbDel) }
func (p *Plugin) GC(ctx context.Context) error     { return p.pass(ctx, verbGC) }
func (p *Plugin) Status(ctx context.Context) error { return p.pass(ctx, verbStatus) }

func (p *Plugin) pass(ctx context.Context, verb string) error {
	_, err := p.call(ctx, verb)
	return err
}

// call keeps a panic of one plugin from the others, which are still to be called on DEL.
func (p *Plugin) call(ctx context.Context, verb string) (res *types100.Result, err error) {
	if p.program != nil {
		return p.program.call(ctx, verb)
	}
	err = p.request.run.guard(func() (err error) {
		res, err = perform(ctx, p.kind, verb, p.request)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.at, err)
	}
	return res, nil
}

// whole is the configuration as a program is handed it. That of a plugin of a list lacks what our own roles find in the request.
func (r *Request) whole(verb string) ([]byte, error) {
	if !r.listed {
		return r.Conf, nil
	}
	set := map[string]any{}
	if r.Prev != nil {
		prev, err := encodeResult(r.Prev, r.CNIVersion)
		if err != nil {
			return nil, err
		}
		set["prevResult"] = json.RawMessage(prev)
	}
	if verb == verbGC {
		set["cni.dev/valid-attachments"], set["cni.dev/attachments"] = r.run.valid, r.run.valid
	}
	return WithKeys(r.Conf, set)
}
