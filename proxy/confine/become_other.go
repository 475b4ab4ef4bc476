//go:build unix && !linux

package confine

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Transparent is Linux's CAP_NET_RAW, which there is nothing like here.
const Transparent Capability = 13

// Become makes the process this user, and there is no way back. With u nil it stays who it is.
func Become(u *User, keep ...Capability) error {
	switch {
	case u == nil || os.Geteuid() == u.UID && os.Getuid() == u.UID:
		return nil
	case os.Geteuid() != 0:
		return fmt.Errorf("the configuration wants user %s, and user %d cannot become it: start gatepost as root or as %s", u.Name, os.Geteuid(), u.Name)
	case len(keep) > 0:
		return errors.New("client_address: transparent without root needs Linux")
	}
	// For root, setgid(2) and setuid(2) set the saved ones as well, and those of the whole process.
	err := syscall.Setgroups(u.Groups)
	if err == nil {
		err = syscall.Setgid(u.GID)
	}
	if err == nil {
		err = syscall.Setuid(u.UID)
	}
	if err != nil {
		return fmt.Errorf("becoming user %s: %w", u.Name, err)
	}
	if syscall.Setuid(0) == nil && u.UID != 0 {
		return errors.New("this process could become root again")
	}
	return nil
}
