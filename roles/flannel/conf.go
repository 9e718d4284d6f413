package flannel

import (
	"encoding/json"
	"path/filepath"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/record"
	"github.com/cnibox/cnibox/roles"
)

const (
	defaultSubnetFile = "/run/flannel/subnet.env"
	defaultDataDir    = "/var/lib/cni/flannel"
)

// keys is an object of a configuration, of which the role sets some keys and hands on the others.
type keys map[string]json.RawMessage

// conf is the network configuration of the role; README.md explains the keys.
type conf struct {
	Delegate      keys   `json:"delegate" plugin:"delegate" default:"bridge" doc:"configuration of the plugin that does the work ('type': 'bridge'), without 'name' and 'ipam'. What it does not say follows from the node's subnet: 'mtu' is FLANNEL_MTU, 'ipMasq' the opposite of FLANNEL_IPMASQ (if flanneld does not masquerade, the plugin does), and 'isGateway' of 'bridge' is true"`
	IPAM          keys   `json:"ipam" plugin:"ipam" default:"host-local" doc:"keys of the ipam plugin ('type': 'host-local'). 'ranges' are the node's subnets; the networks of all nodes are added to 'routes', each as a 'dst'"`
	RuntimeConfig keys   `json:"runtimeConfig" doc:"handed on"`
	SubnetFile    string `json:"subnetFile" file:"root" default:"/run/flannel/subnet.env" doc:"flanneld's file; an absolute path. It is root's, and nobody else may write to it"`
	DataDir       string `json:"dataDir" default:"/var/lib/cni/flannel" doc:"folder for saved configurations; an absolute path"`

	kind string // delegate.type
}

// load reads and checks the configuration. DEL and GC read leniently: what is wrong then has its default.
func load(r *roles.Request, lenient bool) (*conf, error) {
	c := &conf{}
	if err := roles.Decode(r.Conf, c, lenient); err != nil {
		return nil, err
	}
	if c.SubnetFile == "" {
		c.SubnetFile = defaultSubnetFile
	}
	if c.DataDir == "" {
		c.DataDir = defaultDataDir
	}
	err := c.check()
	if lenient {
		return c, nil
	}
	return c, err
}

// check gives what is wrong its default, and tells of the first.
func (c *conf) check() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, invalid(format, args...)) }
	c.kind = "bridge"
	if text, ok := c.Delegate["type"]; ok {
		if err := json.Unmarshal(text, &c.kind); err != nil || c.kind == "" {
			c.kind = "bridge"
			wrong("delegate.type: %s is not the name of a plugin", text)
		}
	}
	for _, key := range []string{"name", "ipam"} {
		if _, ok := c.Delegate[key]; ok {
			wrong("delegate.%s: not here; it follows from the network", key)
		}
	}
	if !filepath.IsAbs(c.SubnetFile) {
		wrong("subnetFile: %q is no absolute path", c.SubnetFile)
		c.SubnetFile = defaultSubnetFile
	}
	if !filepath.IsAbs(c.DataDir) {
		wrong("dataDir: %q is no absolute path", c.DataDir)
		c.DataDir = defaultDataDir
	}
	var kind string
	if text, ok := c.IPAM["type"]; ok && json.Unmarshal(text, &kind) != nil {
		wrong("ipam.type: %s is not the name of a plugin", text)
		delete(c.IPAM, "type")
	}
	var routes []json.RawMessage
	if text, ok := c.IPAM["routes"]; ok && json.Unmarshal(text, &routes) != nil {
		wrong("ipam.routes: %s is no list", text)
		delete(c.IPAM, "routes")
	}
	if len(errs) > 0 {
		return errs[0]
	}
	return nil
}

func (c *conf) folder() record.Folder { return record.Folder(c.DataDir) }

func invalid(format string, args ...any) error {
	return errcode.Errorf(errcode.InvalidConfig, format, args...)
}
