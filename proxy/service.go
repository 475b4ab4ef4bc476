package proxy

import (
	"sync/atomic"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy/backend"
	"gatepost/proxy/front"
)

// Service is what sessions work with. It is never written after it was handed over; a reload hands over another, and
// running sessions finish on the one that they began with.
type Service struct {
	Hostname    string // our name in the greeting and in trace fields
	Engine      *policy.Engine
	Runtime     *policy.Runtime
	Backend     *backend.Group
	Submission  *backend.Group // for listeners with submission; nil: there are none
	Limits      Limits
	LineEndings LineEndings
	Duplicates  Duplicates
	Store       filters.Store // needed to suppress duplicates
	Digest      bool          // policy.Ending.Digest is wanted
	Quarantine  Keeper        // for rules that keep messages; nil: none can be kept
	// Hold is how long a backend waits for a client that is busy with something else (backend.hold).
	Hold time.Duration
	// TraceField adds a Received field: the backend does not learn the client's address in another way
	// (client_address none).
	TraceField bool
	// Retired is called once, when the service was replaced and its last session has ended. May be nil.
	Retired func()
}

// service counts who uses a Service: its sessions, and the server while it is the current one.
type service struct {
	Service
	front.Uses
	confirmer policy.Confirmer // nil: nobody wants to hear of it
	// offered is what the latest EHLO was answered with; never written after it is published.
	offered atomic.Pointer[backend.Extensions]
}

// share returns e, in one place for all sessions that are offered the same: 128 bytes less for each that waits.
func (v *service) share(e backend.Extensions) *backend.Extensions {
	if latest := v.offered.Load(); latest != nil && latest.Equal(&e) {
		return latest
	}
	shared := e
	v.offered.Store(&shared)
	return &shared
}

func newService(s Service) *service {
	v := &service{Service: s}
	if s.Runtime != nil {
		v.confirmer, _ = s.Runtime.Recorder.(policy.Confirmer)
	}
	v.Begin()
	return v
}

// Release ends a use.
func (v *service) Release() {
	if v.Uses.Release() && v.Retired != nil {
		v.Retired()
	}
}
