package front

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"
)

// ErrOwned is wrapped by the errors of RemoveStale and LockFile when another process answers on the socket, or holds the
// file.
var ErrOwned = errors.New("another gatepost is there already")

const staleTimeout = 2 * time.Second

// RemoveStale removes a UNIX socket on which nobody listens, as a process that died has left it, and nothing else.
func RemoveStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of that name that is not a socket: remove it, or choose another folder")
	}
	conn, err := net.DialTimeout("unix", path, staleTimeout)
	if err == nil {
		_ = conn.Close()
		return ErrOwned
	}
	if !IsNobody(err) {
		return err
	}
	return os.Remove(path)
}

// IsNobody tells that there is no socket, or one that a dead process left.
func IsNobody(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}
