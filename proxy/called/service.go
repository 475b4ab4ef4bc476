package called

import (
	"fmt"

	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/front"
)

// Service is what sessions work with. It is never written after it was handed over; a reload hands over another, and
// running sessions finish on the one that they began with.
type Service struct {
	Hostname string
	Engine   *policy.Engine
	Runtime  *policy.Runtime
	// Limits of the whole process. What MTAs decide themselves (commands, errors, recipients, line_length, ...) is their
	// own affair.
	Limits proxy.Limits
	// Retired is called once, when the service was replaced and its last session has ended. May be nil.
	Retired func()
}

func (s *Service) validate() error {
	if err := s.Limits.Validate(); err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	return nil
}

// service counts who uses a Service: its sessions, and the server while it is the current one.
type service struct {
	Service
	front.Uses
}

func newService(s Service) *service {
	v := &service{Service: s}
	v.Begin()
	return v
}

// Release ends a use.
func (v *service) Release() {
	if v.Uses.Release() && v.Retired != nil {
		v.Retired()
	}
}
