package roles

import (
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// The verbs (CNI spec, section 2, CNI_COMMAND).
const (
	verbAdd     = "ADD"
	verbCheck   = "CHECK"
	verbDel     = "DEL"
	verbGC      = "GC"
	verbStatus  = "STATUS"
	verbVersion = "VERSION"
)

// environment is what a runtime says in variables (CNI spec, section 2, "Parameters").
type environment struct {
	command, containerID, netNS, ifName, args, path string
	override                                        bool // CNI_NETNS_OVERRIDE: the sandbox may be the plugin's own namespace
}

// readEnvironment checks what the verb needs, and nothing more: Podman, for one, asks for VERSION with made-up values.
func readEnvironment(getenv func(string) string) (*environment, error) {
	e := &environment{
		command:     getenv("CNI_COMMAND"),
		containerID: getenv("CNI_CONTAINERID"),
		netNS:       getenv("CNI_NETNS"),
		ifName:      getenv("CNI_IFNAME"),
		args:        getenv("CNI_ARGS"),
		path:        getenv("CNI_PATH"),
	}
	if o := getenv("CNI_NETNS_OVERRIDE"); o == "1" || strings.EqualFold(o, "true") {
		e.override = true
	}
	switch e.command {
	case verbVersion:
		return e, nil
	case verbAdd, verbCheck, verbDel, verbGC, verbStatus:
	case "":
		return e, errcode.Errorf(errcode.InvalidEnvironment, "CNI_COMMAND: missing")
	default:
		return e, errcode.Errorf(errcode.InvalidEnvironment, "CNI_COMMAND: %q is none of ADD, CHECK, DEL, GC, STATUS, VERSION", e.command)
	}
	if err := e.missing(); err != nil {
		return e, err
	}
	if !e.isAttachment() {
		return e, nil
	}
	if !validName(e.containerID) {
		return e, errcode.Errorf(errcode.InvalidEnvironment, "CNI_CONTAINERID: %q has characters beyond letters, digits, '_', '.' and '-', "+
			"or begins with one of the last three", e.containerID)
	}
	if err := CheckLinkName("CNI_IFNAME", e.ifName); err != nil {
		return e, errcode.Errorf(errcode.InvalidEnvironment, "%s", err.Error())
	}
	return e, nil
}

// isAttachment tells the verbs that are about one attachment from those that are about the network.
func (e *environment) isAttachment() bool {
	return e.command == verbAdd || e.command == verbCheck || e.command == verbDel
}

func (e *environment) missing() error {
	var names []string
	need := func(name, value string, needed bool) {
		if needed && value == "" {
			names = append(names, name)
		}
	}
	need("CNI_CONTAINERID", e.containerID, e.isAttachment())
	need("CNI_NETNS", e.netNS, e.command == verbAdd || e.command == verbCheck)
	need("CNI_IFNAME", e.ifName, e.isAttachment())
	need("CNI_PATH", e.path, true)
	if len(names) == 0 {
		return nil
	}
	return errcode.Errorf(errcode.InvalidEnvironment, "required env variables [%s] missing", strings.Join(names, ","))
}

// validName checks a container ID or a network's name (CNI spec, sections 1 and 2): a letter or digit, then letters, digits, '_', '.', '-'.
func validName(s string) bool {
	for i, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return s != ""
}
