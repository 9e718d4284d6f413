package doctor

// check is one thing that is looked at. To add one, write its function and give it a line below, and a row in docs/doctor.md.
type check struct {
	name  string // in JSON
	title string // above its findings
	about string // what is right where there are none
	look  func(*facts, *list)
}

// checks are all of them, in the order in which they are told.
func checks() []check {
	return []check{
		{"machine", "Machine", "root's rights, clock, /run, room on the disk", machine},
		{"kernel", "Kernel", "all that the plugins need", kernel},
		{"configuration", "Configuration", "the files of the runtime, and the plugins that they name", configuration},
		{"pools", "Addresses", "no pool is nearly full, no reservation is odd", pools},
		{"subnets", "Subnets", "the pods' networks are nobody else's, and lead to the pods", subnets},
		{"forwarding", "Forwarding", "packets of pods are forwarded", forwarding},
		{"limits", "Limits of the kernel", "connections and neighbours have room", limits},
		{"filter", "Packet filter of others", "no other program's rule stops pods", filter},
		{"mtu", "MTU", "what links carry fits", mtu},
		{"attachments", "Attachments", "each pod has what it should have, and nothing is left of others", attachments},
		{"dhcp", "DHCP", "the daemon answers", dhcpDaemon},
	}
}
