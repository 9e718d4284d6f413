package wire

import (
	"net"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Args are those of a call (skel.CmdArgs of the CNI library).
type Args struct {
	ContainerID, Netns, IfName, Args, Path string
	StdinData                              []byte // the network configuration
}

// The numbers of types need only differ from one another and from gob's own.
const firstType = 65

func requestShape() *shape {
	return &shape{name: "Request", id: firstType, fields: []field{{"ServiceMethod", basic(tString)}, {"Seq", basic(tUint)}}}
}

func responseShape() *shape {
	return &shape{name: "Response", id: firstType, fields: []field{{"ServiceMethod", basic(tString)}, {"Seq", basic(tUint)}, {"Error", basic(tString)}}}
}

func argsShape() *shape {
	text := basic(tString)
	return &shape{name: "CmdArgs", id: firstType + 1, fields: []field{
		{"ContainerID", text}, {"Netns", text}, {"IfName", text}, {"Args", text}, {"Path", text}, {"NetnsOverride", text}, {"StdinData", basic(tBytes)},
	}}
}

// emptyShape is that of struct{}: what Release answers, and every call that fails.
func emptyShape() *shape { return &shape{name: "Empty", id: firstType + 2} }

func resultShape() *shape {
	text, number, bytes := basic(tString), basic(tInt), basic(tBytes)
	ipNet := &shape{name: "IPNet", id: firstType + 4, fields: []field{{"IP", bytes}, {"Mask", bytes}}}
	config := &shape{name: "IPConfig", id: firstType + 5, fields: []field{{"Interface", number}, {"Address", ipNet}, {"Gateway", bytes}}}
	route := &shape{name: "Route", id: firstType + 6, fields: []field{
		{"Dst", ipNet}, {"GW", bytes}, {"MTU", number}, {"AdvMSS", number}, {"Priority", number}, {"Table", number}, {"Scope", number},
	}}
	texts := &shape{name: "[]string", id: firstType + 7, elem: text}
	dns := &shape{name: "DNS", id: firstType + 8, fields: []field{{"Nameservers", texts}, {"Domain", text}, {"Search", texts}, {"Options", texts}}}
	return &shape{name: "Result", id: firstType + 3, fields: []field{
		{"CNIVersion", text},
		{"IPs", &shape{name: "[]*types100.IPConfig", id: firstType + 9, elem: config}},
		{"Routes", &shape{name: "[]*types.Route", id: firstType + 10, elem: route}},
		{"DNS", dns},
	}}
}

func (a *Args) record() record {
	return record{
		"ContainerID": a.ContainerID, "Netns": a.Netns, "IfName": a.IfName, "Args": a.Args, "Path": a.Path, "StdinData": a.StdinData,
	}
}

func argsOf(r record) *Args {
	data, _ := r["StdinData"].([]byte)
	return &Args{
		ContainerID: text(r["ContainerID"]), Netns: text(r["Netns"]), IfName: text(r["IfName"]), Args: text(r["Args"]), Path: text(r["Path"]),
		StdinData: data,
	}
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func resultRecord(res *types100.Result) record {
	var ips, routes []any
	for _, ip := range res.IPs {
		ips = append(ips, record{"Address": netRecord(ip.Address), "Gateway": []byte(ip.Gateway)})
	}
	for _, r := range res.Routes {
		route := record{
			"Dst": netRecord(r.Dst), "GW": []byte(r.GW), "MTU": int64(r.MTU), "AdvMSS": int64(r.AdvMSS), "Priority": int64(r.Priority),
		}
		if r.Scope != nil {
			route["Scope"] = int64(*r.Scope)
		}
		routes = append(routes, route)
	}
	dns := record{"Nameservers": texts(res.DNS.Nameservers), "Domain": res.DNS.Domain, "Search": texts(res.DNS.Search), "Options": texts(res.DNS.Options)}
	return record{"CNIVersion": res.CNIVersion, "IPs": ips, "Routes": routes, "DNS": dns}
}

func netRecord(n net.IPNet) record { return record{"IP": []byte(n.IP), "Mask": []byte(n.Mask)} }

func texts(list []string) (out []any) {
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

// resultOf reads a result. What is missing in it has its zero value, as gob has it.
func resultOf(r record) *types100.Result {
	res := &types100.Result{CNIVersion: text(r["CNIVersion"])}
	for _, v := range list(r["IPs"]) {
		ip, _ := v.(record)
		gateway, _ := ip["Gateway"].([]byte)
		res.IPs = append(res.IPs, &types100.IPConfig{Address: netOf(ip["Address"]), Gateway: gateway})
	}
	for _, v := range list(r["Routes"]) {
		route, _ := v.(record)
		gw, _ := route["GW"].([]byte)
		out := &types.Route{
			Dst: netOf(route["Dst"]), GW: gw, MTU: number(route["MTU"]), AdvMSS: number(route["AdvMSS"]), Priority: number(route["Priority"]),
		}
		for key, into := range map[string]**int{"Table": &out.Table, "Scope": &out.Scope} {
			if n, ok := route[key].(int64); ok {
				value := int(n)
				*into = &value
			}
		}
		res.Routes = append(res.Routes, out)
	}
	dns, _ := r["DNS"].(record)
	res.DNS = types.DNS{Nameservers: stringsOf(dns["Nameservers"]), Domain: text(dns["Domain"]), Search: stringsOf(dns["Search"]), Options: stringsOf(dns["Options"])}
	return res
}

func netOf(v any) net.IPNet {
	r, _ := v.(record)
	ip, _ := r["IP"].([]byte)
	mask, _ := r["Mask"].([]byte)
	return net.IPNet{IP: ip, Mask: mask}
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

func stringsOf(v any) (out []string) {
	for _, s := range list(v) {
		out = append(out, text(s))
	}
	return out
}

func number(v any) int {
	n, _ := v.(int64)
	return int(n)
}
