package tap

import (
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/roles"
)

func (c *conf) chooseMAC(cniArgs string) error {
	args, err := roles.ParseArgs(cniArgs)
	if err != nil {
		return err
	}
	wishes := []struct {
		key, value string
		code       uint
	}{
		{"runtimeConfig.mac", c.RuntimeConfig.MAC, errcode.InvalidConfig},
		{"args.cni.mac", c.Args.CNI.MAC, errcode.InvalidConfig},
		{"CNI_ARGS MAC", args["MAC"], errcode.InvalidEnvironment},
		{"mac", c.MAC, errcode.InvalidConfig},
	}
	for _, w := range wishes {
		if w.value = strings.TrimSpace(w.value); w.value == "" {
			continue
		}
		if c.mac, err = roles.ParseMAC(w.key, w.value); err != nil {
			return errcode.Errorf(w.code, "%s", err.Error())
		}
		return nil
	}
	return nil
}
