//go:build !linux

package control

import "net"

// isAllowed relies on the socket's file mode where the kernel cannot be asked in this way.
func isAllowed(*net.UnixConn) error { return nil }
