// Package roles holds what all plugin roles share: the Role interface, the request, the runner and delegation.
package roles

import (
	"context"

	types100 "github.com/containernetworking/cni/pkg/types/100"
)

// Role is one plugin that this executable answers to. Every role implements every verb of the CNI specification.
//
// A role never prints, never reads the environment, and never exits: the runner (Run) does. Errors carry a code from package
// errcode and name the key or object that is at fault.
type Role interface {
	// Add makes the attachment. What it did before a failure is undone by the runner through r.Undo.
	Add(ctx context.Context, r *Request) (*types100.Result, error)
	// Check compares the kernel with what Add made. r.Prev is never nil.
	Check(ctx context.Context, r *Request) error
	// Del removes the attachment. It is idempotent, needs neither r.Prev nor r.Sandbox, and always makes what progress it can.
	Del(ctx context.Context, r *Request) error
	// GC removes what belongs to attachments of r.Network that are not in valid.
	GC(ctx context.Context, r *Request, valid []Attachment) error
	// Status tells whether Add can be served now: nil, or an error with code errcode.NotAvailable or errcode.LimitedConnectivity.
	Status(ctx context.Context, r *Request) error
}

// Table maps the names that the executable answers to, to their roles.
type Table map[string]Role
