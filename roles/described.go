package roles

// Described is what each role tells of its configuration to commands: what keys there are, and what it thinks of a configuration. Plugin calls
// have no use for it.
//
// The struct that Conf returns is the one source of what is known of the keys. Beside json its fields have these tags:
//
//	doc       what the key does; 'x' is code
//	default   what it stands at where it is left out; one that has spaces is a description
//	required  "true": ADD refuses a configuration without it
//	enum      the values that it takes, with commas between; "" is taken too, for the default
//	min, max  the least and the most that it takes; also is one more number
//	type      of a key that the role itself reads (json.RawMessage): int, list, object, or flag (a boolean or the word for one)
//	plugin    it holds configurations of other plugins: ipam (an ipam plugin's), delegate (one), or list; default is then the plugin's name
//	alias     how the reference plugins' documentation writes it, where that is something else
//	open      "true": an object that holds keys of others besides
//	key       beside a struct that is embedded: the other tags are for this key of it
//	file      it names a file: "root" (nobody else may write to it) or "any"
type Described interface {
	// Conf is a pointer to the role's configuration, empty.
	Conf() any
	// CheckConf is the error that ADD has for a configuration, whatever the state of the node; nil if it takes it. Of the request it reads
	// what Rehearse sets.
	CheckConf(r *Request) error
}

// Common is a pointer to the keys that the runner reads, whatever the role.
func Common() any { return &common{} }

// IPAMKey is the key ipam of roles that hand it on to an ipam plugin.
type IPAMKey struct {
	Type string `json:"type"`
}

// Rehearse is a request that is about no attachment, for CheckConf.
func Rehearse(network, cniVersion string, conf []byte) *Request {
	r := &Request{CNIVersion: cniVersion, Conf: conf}
	r.Owner.Network, r.Owner.ContainerID, r.Owner.IfName = network, "rehearsal", "eth0"
	keys := &common{}
	if Decode(conf, keys, true) == nil && keys.IPAM.Type != "" {
		r.IPAM = &Delegate{kind: keys.IPAM.Type}
	}
	return r
}

// ValidName tells whether a network can have the name (CNI spec, section 1): a letter or digit, then letters, digits, '_', '.', '-'.
func ValidName(s string) bool { return validName(s) }
