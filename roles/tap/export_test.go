package tap

import "github.com/cnibox/cnibox/roles"

// NewAt is the role with the character device in another place.
func NewAt(tun string) roles.Role { return role{tun} }
