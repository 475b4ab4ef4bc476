package control

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// identify asks the kernel who connected. It is an error if he may not give commands.
func identify(conn *net.UnixConn) (userID string, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return "", err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return "", err
	}
	if peerErr != nil {
		return "", fmt.Errorf("who are you? %w", peerErr)
	}
	return strconv.FormatUint(uint64(peer.Uid), 10), allowed(peer.Uid, uint32(os.Geteuid()))
}

// allowed tells whether a user may give commands: root and the one that gatepost runs as.
func allowed(user, own uint32) error {
	if user == 0 || user == own {
		return nil
	}
	return fmt.Errorf("user %d may not give commands: be root, or user %d", user, own)
}
