package policyserver

import (
	"context"
	"fmt"

	"gatepost/proxy/called"
	"gatepost/proxy/sockets"
)

// Listen is one entry of `policy_server:`.
type Listen struct {
	called.Listen `yaml:",inline"`
}

// Bound is an entry with its socket.
type Bound = called.Bound[Listen]

// Listening is where a reload has MTAs served.
type Listening = called.Listening[Listen]

// Bind opens the socket, unless it was given to the process. A UNIX socket that a dead process left is replaced; its folder must exist.
func (l Listen) Bind(ctx context.Context, given *sockets.Set) (Bound, error) {
	b, err := called.Bind(ctx, l, sockets.PolicyServer, given)
	if err != nil {
		return b, fmt.Errorf("policy_server: %w", err)
	}
	return b, nil
}
