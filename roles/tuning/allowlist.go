package tuning

import (
	"errors"
	"io/fs"
	"regexp"
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// defaultAllowlist is the file in which an operator says which sysctls configurations may set: one regular expression on each line. Without it all
// of the network's are allowed.
const defaultAllowlist = "/etc/cni/tuning/allowlist.conf"

// mostAllowed bounds it, in bytes.
const mostAllowed = 1 << 20

// checkAllowed refuses a sysctl that the file does not allow. The expressions match any part of a name as the configuration has it.
func (c *conf) checkAllowed(path string) error {
	text, err := plainfile.ReadTrusted(path, mostAllowed)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return errcode.Errorf(errcode.IOFailure, "allowlist of sysctls: %w", err)
	}
	var allowed []*regexp.Regexp
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		re, err := regexp.Compile(line)
		if err != nil {
			return errcode.Errorf(errcode.InvalidConfig, "allowlist of sysctls: %s: %w", path, err)
		}
		allowed = append(allowed, re)
	}
	for _, s := range c.sysctls {
		ok := false
		for _, re := range allowed {
			ok = ok || re.MatchString(s.key)
		}
		if !ok {
			return errcode.Errorf(errcode.InvalidConfig, "sysctl: %s is not allowed by %s", s.key, path)
		}
	}
	return nil
}
