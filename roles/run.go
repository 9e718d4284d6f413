package roles

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
	"github.com/cnibox/cnibox/netutil/trace"
)

// Exchange is what a plugin has of the world: a runtime's variables and streams. Tests have their own.
type Exchange struct {
	Getenv         func(string) string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Run answers one call of a plugin (CNI spec, section 2) and returns the exit status. It is the only place that prints: a result,
// an error, or nothing. Whatever fails, the printing of the result included, is undone.
func Run(ctx context.Context, x Exchange, name string, table Table) int {
	run := &runner{Exchange: x, name: name, table: table, version: types100.ImplementedSpecVersion}
	env, err := readEnvironment(x.Getenv)
	defer trace.Start("call", env.command, name).End()
	if env.command == "" {
		_, _ = fmt.Fprintf(x.Stderr, "cnibox as the CNI plugin %s: to be called by a container runtime, with CNI_COMMAND set\n"+
			"CNI protocol versions supported: %s\n", name, strings.Join(Versions(), ", "))
		return 0
	}
	if err == nil {
		err = run.guard(func() error { return run.answer(ctx, env) })
	}
	if err != nil {
		run.printError(err)
		return 1
	}
	return 0
}

type runner struct {
	Exchange
	name    string
	table   Table
	version string       // that errors are told in: the configuration's, once it is known
	valid   []Attachment // what GC must keep
}

// common are the keys that the runner itself reads.
type common struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	IPAM       struct {
		Type string `json:"type"`
	} `json:"ipam"`
	PrevResult json.RawMessage `json:"prevResult" type:"object"`
	Valid      json.RawMessage `json:"cni.dev/valid-attachments"` // nil only if the key is missing; "null" is a value
	ValidOld   json.RawMessage `json:"cni.dev/attachments"`       // the key's name in an early text of the specification
}

func (run *runner) answer(ctx context.Context, env *environment) error {
	if env.command == verbVersion {
		return run.print(struct {
			CNIVersion        string   `json:"cniVersion"`
			SupportedVersions []string `json:"supportedVersions"`
		}{run.versionAsked(), Versions()})
	}
	raw, err := run.read()
	if err != nil {
		return err
	}
	conf, err := run.decode(raw, env)
	if err != nil {
		return err
	}
	r := &Request{
		Owner:      owner.Owner{Network: conf.Name},
		CNIVersion: run.version, Args: env.args, Path: env.path, NetNS: env.netNS, Conf: raw, Undo: &netutil.Undo{}, run: run,
	}
	if env.isAttachment() {
		r.Owner.ContainerID, r.Owner.IfName = env.containerID, env.ifName
	}
	if r.Prev, err = run.prevResult(conf, env.command); err != nil {
		return err
	}
	if run.valid, err = validAttachments(conf, env.command); err != nil {
		return err
	}
	if err := openNamespaces(r, env); err != nil {
		return err
	}
	defer r.Sandbox.Close()
	defer r.Host.Close()
	r.delegate(conf)
	return run.call(ctx, env.command, r)
}

// mostConf bounds a network configuration, in bytes: GC's can list 20,000 attachments. What is made of one can take 60 times as much memory.
const mostConf = 2 << 20

func (run *runner) read() ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(run.Stdin, mostConf+1))
	if err != nil {
		return nil, errcode.Errorf(errcode.IOFailure, "read the network configuration: %w", err)
	}
	if len(raw) > mostConf {
		return nil, errcode.Errorf(errcode.IOFailure, "read the network configuration: it is longer than %d bytes", mostConf)
	}
	return raw, nil
}

// versionAsked is the version that VERSION is answered in: the one that stdin names (CNI spec, section 5, "Version"), or the newest if that
// is none of ours. It reads one object and no further, so a caller that leaves stdin open is answered all the same.
func (run *runner) versionAsked() string {
	var asked struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.NewDecoder(io.LimitReader(run.Stdin, mostConf)).Decode(&asked); err != nil || !slices.Contains(Versions(), asked.CNIVersion) {
		return types100.ImplementedSpecVersion
	}
	return asked.CNIVersion
}

// lenient tells the verbs that must go on with a configuration that ADD refused.
func lenient(verb string) bool { return verb == verbDel || verb == verbGC }

// decode reads the common keys, and checks them before anything else is looked at.
func (run *runner) decode(raw []byte, env *environment) (*common, error) {
	conf := &common{}
	wrong := Decode(raw, conf, lenient(env.command))
	if wrong != nil && errcode.Of(wrong) == errcode.DecodingFailure {
		return nil, wrong
	}
	version := conf.CNIVersion
	if version == "" {
		version = "0.1.0" // CNI spec: configurations from before the key are of this version
	}
	if slices.Contains(Versions(), version) {
		run.version = version
	} else if wrong == nil {
		wrong = errcode.Errorf(errcode.IncompatibleVersion, "cniVersion: %q is not supported; supported are %s",
			version, strings.Join(Versions(), ", "))
	}
	if wrong != nil {
		return nil, wrong
	}
	least := map[string]string{verbCheck: "0.4.0", verbGC: "1.1.0", verbStatus: "1.1.0"}[env.command]
	if least != "" && !atLeast(version, least) {
		return nil, errcode.Errorf(errcode.IncompatibleVersion, "cniVersion: %s has no verb %s, which came with %s", version, env.command, least)
	}
	if conf.Name == "" {
		return nil, errcode.Errorf(errcode.InvalidConfig, "name: missing")
	}
	if !validName(conf.Name) {
		return nil, errcode.Errorf(errcode.InvalidConfig, "name: %q has characters beyond letters, digits, '_', '.' and '-', "+
			"or begins with one of the last three", conf.Name)
	}
	return conf, nil
}

// prevResult reads the result of the plugins before this one. DEL and GC go on without one that cannot be read.
func (run *runner) prevResult(conf *common, verb string) (*types100.Result, error) {
	if len(conf.PrevResult) == 0 || string(conf.PrevResult) == "null" {
		if verb == verbCheck {
			return nil, errcode.Errorf(errcode.InvalidConfig, "prevResult: missing; CHECK compares with it")
		}
		return nil, nil
	}
	prev, err := parseResult(run.version, conf.PrevResult)
	if err == nil || lenient(verb) {
		return prev, nil
	}
	return nil, errcode.Errorf(errcode.InvalidConfig, "prevResult: %v", err)
}

// validAttachments reads what GC must keep. A list that is missing is an error rather than empty: the network of every running container
// would be taken away (CNI spec, section 2, GC: the runtime must supply it). A list that is null is empty: that is how libcni tells one.
func validAttachments(conf *common, verb string) ([]Attachment, error) {
	if verb != verbGC {
		return nil, nil
	}
	const key = "cni.dev/valid-attachments"
	list := conf.Valid
	if list == nil {
		list = conf.ValidOld
	}
	if list == nil {
		return nil, errcode.Errorf(errcode.InvalidConfig, "%s: missing; it lists the attachments to keep", key)
	}
	var valid []Attachment
	if err := decode("it", list, &valid, false); err != nil {
		return nil, errcode.Errorf(errcode.InvalidConfig, "%s: %v", key, err)
	}
	for i, v := range valid {
		if v.ContainerID == "" || v.IfName == "" {
			return nil, errcode.Errorf(errcode.InvalidConfig, "%s[%d]: containerID and ifname are both needed", key, i)
		}
	}
	return valid, nil
}

// openNamespaces checks which namespaces the call is about, before anything is touched in either.
func openNamespaces(r *Request, env *environment) (err error) {
	if r.Host, err = netutil.Current(); err != nil {
		return err
	}
	if !env.isAttachment() || env.netNS == "" {
		return nil
	}
	sandbox, err := netutil.Open(env.netNS)
	if err != nil && env.command == verbDel {
		if !errors.Is(err, fs.ErrNotExist) {
			r.SandboxErr = err
		}
		return nil // it is gone, and with it all that was inside
	}
	if err != nil {
		r.Host.Close()
		return errcode.Errorf(errcode.InvalidNetNS, "CNI_NETNS: %w", err)
	}
	same, err := sandbox.Same(r.Host)
	if err == nil && same && !env.override && env.command == verbDel {
		sandbox.Close()
		return nil // so too: a path in /proc, of a process whose number is now a process's of the host
	}
	if err == nil && same && !env.override {
		err = errcode.Errorf(errcode.InvalidNetNS, "CNI_NETNS: %s is the plugin's own network namespace", env.netNS)
	}
	if err != nil {
		sandbox.Close()
		r.Host.Close()
		return err
	}
	r.Sandbox = sandbox
	return nil
}

// guard turns a panic, which no role should ever cause, into an error: what has been done must still be undone.
func (run *runner) guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			_, _ = fmt.Fprintf(run.Stderr, "cnibox %s: panic: %v\n%s", run.name, p, debug.Stack())
			err = errcode.Errorf(errcode.Internal, "panic: %v", p)
		}
	}()
	return f()
}

// call runs the role and, for ADD, prints what it answers. An ADD is all or nothing.
func (run *runner) call(ctx context.Context, verb string, r *Request) error {
	err := run.guard(func() error {
		res, err := perform(ctx, run.name, verb, r)
		if err != nil || verb != verbAdd {
			return err
		}
		return run.printResult(ctx, res)
	})
	if err == nil {
		return nil
	}
	return errors.Join(err, run.guard(r.Undo.Run))
}

func (run *runner) printResult(ctx context.Context, res *types100.Result) error {
	if ctx.Err() != nil { // whoever sent the signal no longer waits for the result
		return errcode.Errorf(errcode.TryAgainLater, "interrupted: %w", context.Cause(ctx))
	}
	out, err := encodeResult(res, run.version)
	if err != nil {
		return err
	}
	return run.write(out)
}

func (run *runner) write(out []byte) error {
	if _, err := run.Stdout.Write(out); err != nil {
		return errcode.Errorf(errcode.IOFailure, "write the result: %w", err)
	}
	return nil
}

func (run *runner) print(v any) error {
	out, err := json.Marshal(v)
	if err != nil {
		return errcode.Errorf(errcode.Internal, "encode the answer: %w", err)
	}
	return run.write(append(out, '\n'))
}

// printError answers with an error (CNI spec, section 5, "Error"): the first line is the message, what else there is, details.
func (run *runner) printError(err error) {
	msg, details, _ := strings.Cut(err.Error(), "\n")
	_ = run.print(struct {
		CNIVersion string `json:"cniVersion"`
		Code       uint   `json:"code"`
		Msg        string `json:"msg"`
		Details    string `json:"details,omitempty"`
	}{run.version, errcode.Of(err), shortened(msg), shortened(details)})
}

// shortened cuts a text that quotes what somebody has sent: runtimes keep errors, and show them.
func shortened(s string) string {
	const enough = 4 << 10 // bytes
	if len(s) <= enough {
		return s
	}
	return strings.ToValidUTF8(s[:enough], "") + " ..."
}
