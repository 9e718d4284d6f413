package roles

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/trace"
)

// program is a delegate, or a plugin of a list, that is a foreign executable. The CNI library's invoke package does the same, but brings
// a tracing library along: 1.8 MB, and a fifth of the time that a start takes.
type program struct {
	path    string
	at      string // where the configuration names it, and how, for errors
	request *Request
}

// call runs the program. For the verbs that came with version 1.1.0 it may say that CNI_COMMAND is wrong: then it has nothing to
// collect and no status to tell, which is no failure of the role that asks.
func (p *program) call(ctx context.Context, verb string) (*types100.Result, error) {
	out, err := p.run(ctx, verb)
	if err != nil {
		younger := verb == verbGC || verb == verbStatus
		if younger && errcode.Of(err) == errcode.InvalidEnvironment {
			return nil, nil
		}
		return nil, err
	}
	if verb != verbAdd {
		return nil, nil
	}
	res, err := parseResult(p.request.CNIVersion, out)
	if err != nil {
		return nil, errcode.Errorf(errcode.DelegateFailed, "%s: its result: %v", p.at, err)
	}
	return res, nil
}

// lingering is how long a program's streams are read after it has ended or been killed: one that it started may hold them open for good.
const lingering = 2 * time.Second

// run starts the program with the request's own environment and configuration, and the verb. The file descriptors that this process has
// open are closed in the child.
func (p *program) run(ctx context.Context, verb string) ([]byte, error) {
	conf, err := p.request.whole(verb)
	if err != nil {
		return nil, err
	}
	defer trace.Start("program", verb, p.path).End()
	cmd := exec.CommandContext(ctx, p.path)
	cmd.Env = p.environ(verb)
	cmd.Stdin = bytes.NewReader(conf)
	cmd.WaitDelay = lingering
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, p.request.run.Stderr
	err = cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // the program itself has succeeded
		return out.Bytes(), nil
	case ctx.Err() != nil:
		return nil, errcode.Errorf(errcode.TryAgainLater, "%s: %s: interrupted: %w", p.at, verb, context.Cause(ctx))
	}
	return nil, p.failure(verb, err, out.Bytes())
}

// failure is the error that the program answered (CNI spec, section 5, "Error"), with its own code, or that it answered none.
func (p *program) failure(verb string, err error, answer []byte) error {
	var said struct {
		Code    uint   `json:"code"`
		Msg     string `json:"msg"`
		Details string `json:"details"`
	}
	if json.Unmarshal(answer, &said) != nil || said.Code == 0 {
		return errcode.Errorf(errcode.DelegateFailed, "%s: %s: %w; it said %q", p.at, verb, err, firstLine(string(answer)))
	}
	if said.Details != "" {
		said.Msg += "; " + said.Details
	}
	return errcode.Errorf(said.Code, "%s: %s", p.at, said.Msg)
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	const enough = 200
	return s[:min(len(s), enough)]
}

// environ is this process's environment with the variables of the call. Later values win (exec.Cmd, Env).
func (p *program) environ(verb string) []string {
	r := p.request
	env := os.Environ()
	if parent := trace.Parent(); parent != "" {
		env = append(env, "TRACEPARENT="+parent)
	}
	return append(env,
		"CNI_COMMAND="+verb,
		"CNI_CONTAINERID="+r.Owner.ContainerID,
		"CNI_NETNS="+r.NetNS,
		"CNI_IFNAME="+r.Owner.IfName,
		"CNI_ARGS="+r.Args,
		"CNI_PATH="+r.Path,
	)
}

// AskVersions asks a program for the CNI versions that it speaks (CNI spec, section 2, VERSION).
func AskVersions(ctx context.Context, path string) ([]string, error) {
	p := &program{path: path, at: path, request: &Request{
		Conf: []byte(`{"cniVersion":"` + types100.ImplementedSpecVersion + `"}`), run: &runner{Exchange: Exchange{Stderr: io.Discard}},
	}}
	out, err := p.run(ctx, verbVersion)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Versions []string `json:"supportedVersions"`
	}
	if err := decode("the answer", out, &answer, false); err != nil {
		return nil, err
	}
	if len(answer.Versions) == 0 { // CNI spec, version 0.1.0: such a plugin knows no other
		return []string{"0.1.0"}, nil
	}
	return answer.Versions, nil
}
