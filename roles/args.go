package roles

import (
	"strings"

	"github.com/cnibox/cnibox/netutil/errcode"
)

// ParseArgs reads CNI_ARGS: "KEY=VALUE" pairs, separated by semicolons (CNI spec, section 2). Of a repeated key the last one counts. A pair
// without "=" or without a key is an error with code errcode.InvalidEnvironment, which does not show it: it can be a part of a secret. Keys
// are not checked: runtimes pass many that no plugin knows, with and without IgnoreUnknown.
func ParseArgs(s string) (map[string]string, error) {
	out := map[string]string{}
	for i, pair := range strings.Split(s, ";") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, errcode.Errorf(errcode.InvalidEnvironment, "CNI_ARGS: number %d between the semicolons is no KEY=VALUE pair", i+1)
		}
		out[key] = value
	}
	return out, nil
}
