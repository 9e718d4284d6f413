package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// The names of the calls, and how a connection begins (net/rpc, DialHTTP).
const (
	allocate = "DHCP.Allocate"
	release  = "DHCP.Release"
	collect  = "DHCP.Collect" // ours
	connect  = "CONNECT /_goRPC_ HTTP/1.0\n\n"
	accepted = "HTTP/1.0 200 Connected to Go RPC\n\n"
)

// ErrAbsent says that no daemon listens at the socket.
var ErrAbsent = errors.New("no dhcp daemon listens")

// Remote is an error that the daemon has answered.
type Remote string

func (e Remote) Error() string { return string(e) }

// Allocate asks the daemon at the socket for a lease. It may take as long as the daemon waits for a server.
func Allocate(ctx context.Context, socket string, a *Args) (*types100.Result, error) {
	answer, err := call(ctx, socket, allocate, a)
	if err != nil {
		return nil, err
	}
	return resultOf(answer), nil
}

// Release has the daemon give a lease back. The daemon does not mind one that it does not have.
func Release(ctx context.Context, socket string, a *Args) error {
	_, err := call(ctx, socket, release, a)
	return err
}

// Collect has the daemon give back the leases of attachments that are not valid. The reference's daemon answers that it has no such call.
func Collect(ctx context.Context, socket string, a *Args) error {
	_, err := call(ctx, socket, collect, a)
	return err
}

// Ping tells whether a daemon listens.
func Ping(ctx context.Context, socket string) error {
	c, err := dial(ctx, socket)
	if err == nil {
		err = c.Close()
	}
	return err
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrAbsent, socket, err)
	}
	return c, err
}

func call(ctx context.Context, socket, method string, a *Args) (record, error) {
	c, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(c, connect); err != nil {
		return nil, err
	}
	in := bufio.NewReader(c)
	if line, err := readHead(in); err != nil || !strings.HasPrefix(line, "HTTP/1.0 200") {
		return nil, errors.Join(fmt.Errorf("%s is no dhcp daemon's: it answers %q", socket, line), err)
	}
	out := &writer{w: c}
	if err := errors.Join(out.write(requestShape(), record{"ServiceMethod": method}), out.write(argsShape(), a.record())); err != nil {
		return nil, err
	}
	r := &reader{r: in}
	head, err := r.read()
	if err != nil {
		return nil, err
	}
	if msg := text(head["Error"]); msg != "" {
		return nil, Remote(msg)
	}
	return r.read()
}

// readHead reads the lines up to an empty one, and returns the first.
func readHead(in *bufio.Reader) (first string, err error) {
	const most = 64
	for range most {
		line, err := in.ReadString('\n')
		if err != nil {
			return first, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return first, nil
		}
		if first == "" {
			first = line
		}
		if len(line) > 4096 {
			break
		}
	}
	return first, errBad
}

// Daemon answers calls.
type Daemon interface {
	Allocate(ctx context.Context, a *Args) (*types100.Result, error)
	Release(ctx context.Context, a *Args) error
	Collect(ctx context.Context, a *Args) error
}

// Serve answers the calls of one connection until that ends.
func Serve(ctx context.Context, c net.Conn, d Daemon) error {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(io.LimitReader(c, 16*maxMessage))
	line, err := readHead(in)
	if line == "" && errors.Is(err, io.EOF) {
		return nil // somebody wanted to know whether there is a daemon
	}
	if err != nil || !strings.HasPrefix(line, "CONNECT /_goRPC_ ") {
		return errors.Join(errBad, err)
	}
	if _, err := io.WriteString(c, accepted); err != nil {
		return err
	}
	r, w := &reader{r: in}, &writer{w: c}
	for {
		request, err := r.read()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		args, err := r.read()
		if err != nil {
			return err
		}
		if err := answer(ctx, w, request, argsOf(args), d); err != nil {
			return err
		}
	}
}

// answer makes the call and sends what comes of it. A panic of one is no other's business.
func answer(ctx context.Context, w *writer, request record, a *Args, d Daemon) error {
	method := text(request["ServiceMethod"])
	var res *types100.Result
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		switch method {
		case allocate:
			res, err = d.Allocate(ctx, a)
		case release:
			err = d.Release(ctx, a)
		case collect:
			err = d.Collect(ctx, a)
		default:
			err = fmt.Errorf("rpc: can't find method %s", method)
		}
		return err
	}()
	head := record{"ServiceMethod": method, "Seq": request["Seq"]}
	if err != nil {
		head["Error"] = err.Error()
	}
	if err := w.write(responseShape(), head); err != nil {
		return err
	}
	if err != nil || res == nil {
		return w.write(emptyShape(), record{})
	}
	return w.write(resultShape(), resultRecord(res))
}
