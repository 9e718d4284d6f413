package roles

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/owner"
)

// CHECK expects what prevResult says; what it leaves out, as ADD chose it.
func TestExpected(t *testing.T) {
	t.Parallel()
	o := owner.Owner{Network: "net", ContainerID: "pod", IfName: "eth0"}
	const with = `{"interfaces":[{"name":"eth0","sandbox":"/x"%s}],"ips":[{"interface":0,"address":"10.0.0.5/24"}]}`
	for mac, want := range map[string]string{``: "0a:58:0a:00:00:05", `,"mac":"02:00:00:00:00:01"`: "02:00:00:00:00:01"} {
		r := &Request{Owner: o, Prev: result(t, fmt.Sprintf(with, mac)), IPAM: answering(nil, nil)}
		if ips, got, err := Expected(context.Background(), r); err != nil || got.String() != want || len(ips) != 1 {
			t.Errorf("%s: %v, %s, %v", mac, ips, got, err)
		}
	}
	r := &Request{Owner: o, Prev: result(t, fmt.Sprintf(with, `,"mac":"x"`))}
	if _, _, err := Expected(context.Background(), r); errcode.Of(err) != errcode.InvalidConfig || !strings.Contains(err.Error(), "prevResult.interfaces") {
		t.Errorf("bad MAC: %v", err)
	}
	r.IPAM = answering(nil, errcode.Errorf(errcode.Differs, "gone"))
	if _, _, err := Expected(context.Background(), r); errcode.Of(err) != errcode.Differs {
		t.Errorf("the ipam plugin's error: %v", err)
	}
}

func TestOwnRoutes(t *testing.T) {
	t.Parallel()
	const (
		first = `{"interface":0,"address":"172.16.0.5/24","gateway":"172.16.0.1"}`
		own   = `{"interface":1,"address":"10.0.0.5/24","gateway":"169.254.1.1"}`
		list  = `"routes":[{"dst":"192.168.0.0/16"},{"dst":"10.1.0.0/16","gw":"172.16.0.1"},{"dst":"10.2.0.0/16","gw":"10.0.0.9"},{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]`
	)
	ips := []IP{ipOf("10.0.0.5/24", "169.254.1.1")}
	if got := OwnRoutes(&Request{Prev: result(t, `{`+list+`}`)}, nil); got != nil {
		t.Errorf("without addresses: %v", got)
	}
	for prev, want := range map[string]string{
		own:               "192.168.0.0/16 <nil>, 10.1.0.0/16 172.16.0.1, 10.2.0.0/16 10.0.0.9, 0.0.0.0/0 169.254.1.1",
		first + `,` + own: "10.2.0.0/16 10.0.0.9, 0.0.0.0/0 169.254.1.1",
	} {
		if got := routes(OwnRoutes(&Request{Prev: result(t, `{"ips":[`+prev+`],`+list+`}`)}, ips)); got != want {
			t.Errorf("%s: %s, want %s", prev, got, want)
		}
	}
}
