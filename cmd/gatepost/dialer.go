package main

import (
	"context"
	"net"
)

// dialer is what filters that talk to other programs are handed.
type dialer struct{}

// Dial connects. The context bounds how long that takes.
func (dialer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}
