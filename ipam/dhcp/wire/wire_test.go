package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"net"
	"net/http"
	"net/rpc"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// everything is a result with all that a daemon can answer.
func everything() *types100.Result {
	dst := func(s string) net.IPNet {
		ip, n, _ := net.ParseCIDR(s)
		return net.IPNet{IP: ip, Mask: n.Mask}
	}
	scope := 253
	return &types100.Result{
		CNIVersion: "1.1.0",
		IPs: []*types100.IPConfig{
			{Address: dst("192.0.2.7/24"), Gateway: net.ParseIP("192.0.2.1")}, {Address: dst("2001:db8::7/64")},
		},
		Routes: []*types.Route{
			{Dst: dst("0.0.0.0/0"), GW: net.ParseIP("192.0.2.1"), MTU: 1400, Priority: 7}, {Dst: dst("198.51.100.0/24"), Scope: &scope, AdvMSS: 1300},
		},
		DNS: types.DNS{Nameservers: []string{"192.0.2.53", "192.0.2.54"}, Domain: "example.org", Search: []string{"a.example", "b.example"}, Options: []string{"ndots:2"}},
	}
}

func args() *Args {
	return &Args{ContainerID: "pod", Netns: "/run/netns/x", IfName: "eth0", Args: "A=B", Path: "/opt/cni/bin", StdinData: bytes.Repeat([]byte("{}"), 300)}
}

func sameArgs(t *testing.T, got *skel.CmdArgs) {
	t.Helper()
	a := args()
	want := &skel.CmdArgs{ContainerID: a.ContainerID, Netns: a.Netns, IfName: a.IfName, Args: a.Args, Path: a.Path, StdinData: a.StdinData}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("args %+v, want %+v", got, want)
	}
}

// DHCP is a daemon as the reference makes it.
type DHCP struct {
	t   *testing.T
	err error
}

func (d *DHCP) Allocate(a *skel.CmdArgs, res *types100.Result) error {
	sameArgs(d.t, a)
	*res = *everything()
	return d.err
}

func (d *DHCP) Release(a *skel.CmdArgs, _ *struct{}) error {
	sameArgs(d.t, a)
	return d.err
}

func TestCallsOfAReferencesDaemon(t *testing.T) {
	t.Parallel()
	for _, fails := range []error{nil, errors.New("no server")} {
		socket := filepath.Join(t.TempDir(), "dhcp.sock")
		s, mux := rpc.NewServer(), http.NewServeMux()
		if err := s.Register(&DHCP{t, fails}); err != nil {
			t.Fatal(err)
		}
		mux.Handle(rpc.DefaultRPCPath, s)
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: mux}
		t.Cleanup(func() { _ = server.Close() })
		go func() { _ = server.Serve(l) }()
		res, err := Allocate(t.Context(), socket, args())
		var remote Remote
		switch {
		case fails != nil && (!errors.As(err, &remote) || remote != "no server"):
			t.Errorf("error %v", err)
		case fails == nil && (err != nil || !reflect.DeepEqual(res, everything())):
			t.Errorf("result %+v, %v", res, err)
		}
		if err := Release(t.Context(), socket, args()); (err == nil) != (fails == nil) {
			t.Errorf("release: %v", err)
		}
	}
}

// own is a daemon of ours.
type own struct {
	t   *testing.T
	err error
}

func (d *own) Allocate(_ context.Context, a *Args) (*types100.Result, error) {
	if !reflect.DeepEqual(a, args()) {
		d.t.Errorf("args %+v", a)
	}
	if a.ContainerID == "panic" {
		panic("x")
	}
	return everything(), d.err
}
func (d *own) Release(context.Context, *Args) error { return d.err }
func (d *own) Collect(context.Context, *Args) error { return d.err }

func serve(t *testing.T, d Daemon) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "dhcp.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = Serve(context.Background(), c, d) }()
		}
	}()
	return socket
}

func TestCallsByAReferencesPlugin(t *testing.T) {
	t.Parallel()
	for _, fails := range []error{nil, errors.New("no server")} {
		client, err := rpc.DialHTTP("unix", serve(t, &own{t, fails}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = client.Close() })
		a := args()
		reference := &skel.CmdArgs{ContainerID: a.ContainerID, Netns: a.Netns, IfName: a.IfName, Args: a.Args, Path: a.Path, StdinData: a.StdinData}
		for range 3 { // over one connection
			res := &types100.Result{}
			err := client.Call("DHCP.Allocate", reference, res)
			if (err == nil) != (fails == nil) || err == nil && !reflect.DeepEqual(res, everything()) {
				t.Errorf("result %+v, %v", res, err)
			}
			if err := client.Call("DHCP.Release", reference, &struct{}{}); (err == nil) != (fails == nil) {
				t.Errorf("release: %v", err)
			}
			if err := client.Call("DHCP.Other", reference, &struct{}{}); err == nil {
				t.Error("a call that there is not succeeds")
			}
		}
	}
}

func TestOwnCallsOfOwnDaemon(t *testing.T) {
	t.Parallel()
	socket := serve(t, &own{t, nil})
	if res, err := Allocate(t.Context(), socket, args()); err != nil || !reflect.DeepEqual(res, everything()) {
		t.Errorf("result %+v, %v", res, err)
	}
	if err := errors.Join(Release(t.Context(), socket, args()), Ping(t.Context(), socket)); err != nil {
		t.Error(err)
	}
	if err := Ping(t.Context(), socket+"x"); !errors.Is(err, ErrAbsent) {
		t.Errorf("ping of nobody: %v", err)
	}
}

// What is not gob, or a lie about its size, ends the reading, and never the process.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	e := gob.NewEncoder(&b)
	for _, v := range []any{rpc.Response{ServiceMethod: "x", Seq: 1}, everything(), map[string][]int{"a": {1}}} {
		if err := e.Encode(v); err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte{}, b.Bytes()...))
	}
	f.Add([]byte{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(_ *testing.T, raw []byte) {
		r := &reader{r: bufio.NewReader(bytes.NewReader(raw))}
		for {
			v, err := r.read()
			if err != nil {
				return
			}
			_, _ = resultOf(v), argsOf(v)
		}
	})
}
