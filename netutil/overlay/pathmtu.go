package overlay

// pathMTU has pods hear of a path between nodes that is narrower than the links at its ends. Over IPv4 routers cut the tunnel's packets; over IPv6 they
// drop them and tell this node (Packet Too Big), whose kernel then knows that the routes through the tunnel take less (skb_tunnel_check_pmtu). It
// tells an IPv6 sender; an IPv4 one, only where forwarding goes by what has been learnt of paths. Without, the pods' TCP goes on sending what nobody
// lets through, for good.
func (r *reconciler) pathMTU() error {
	if r.addr.Is4() || !r.tunnelsIPv4() {
		return nil
	}
	setting := []string{"net", "ipv4", "ip_forward_use_pmtu"}
	value, err := r.n.Sysctl(setting...)
	if err != nil || value == "1" {
		return err
	}
	r.differs("packets are forwarded without regard to the path: net.ipv4.ip_forward_use_pmtu is %s", value)
	if r.repair {
		_, err = r.n.SetSysctl("1", setting...)
	}
	return err
}

func (r *reconciler) tunnelsIPv4() bool {
	for dst, w := range r.routes {
		if dst.Addr().Is4() && !w.direct {
			return true
		}
	}
	return false
}
