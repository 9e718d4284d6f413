package node

import "github.com/cnibox/cnibox/netutil/nft"

// This file is for who takes away what a dead attachment has left.

// Alive tells whether the attachment's sandbox is there, or may be.
func (a *Attachment) Alive() bool { return a.alive() }

// Cached tells whether the runtime's CNI library remembers the attachment.
func (a *Attachment) Cached() bool { return a.sources.cache }

// Held is what the attachment has in the packet filter.
func (a *Attachment) Held() []nft.Holding { return a.sources.held }

// Limiter is the device through which goes what the container sends, and Returned a device of the host's that the container had and that is back
// without a DEL; nil if there is none.
func (a *Attachment) Limiter() *Link  { return a.sources.ifb }
func (a *Attachment) Returned() *Link { return a.sources.returned }
