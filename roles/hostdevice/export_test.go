package hostdevice

import "github.com/cnibox/cnibox/roles"

// NewAt is the role with sysfs mounted in another place.
func NewAt(dir string) roles.Role { return role{sysfs(dir)} }
