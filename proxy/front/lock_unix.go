//go:build unix

package front

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// LockFile makes the file if it is missing and holds it until it is closed, so that a second process keeps off what
// belongs to it. The error wraps [ErrOwned] when another one holds it. It does not wait.
func LockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrOwned
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}
