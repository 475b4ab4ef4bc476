package confine

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Transparent is the capability that connections from foreign addresses need: IP_TRANSPARENT asks for CAP_NET_RAW or
// CAP_NET_ADMIN, and the second one would let its owner change the machine's addresses and routes.
const Transparent = Capability(cap.NET_RAW)

// Become makes the process this user, with no capability but those to keep, and no way back. A process that is the user
// already only loses capabilities. With u nil it stays who it is; root keeps its capabilities then.
func Become(u *User, keep ...Capability) error {
	if u == nil && os.Geteuid() == 0 {
		return noNewPrivileges()
	}
	if u != nil && os.Geteuid() != 0 && os.Geteuid() != u.UID {
		return fmt.Errorf("the configuration wants user %s, and user %d cannot become it: start gatepost as root or as %s", u.Name, os.Geteuid(), u.Name)
	}
	kept := values(keep)
	if err := dropBounding(kept); err != nil {
		return err
	}
	if u != nil && os.Geteuid() == 0 {
		if err := u.enter(); err != nil {
			return err
		}
	}
	if err := keepOnly(kept); err != nil {
		return err
	}
	if err := noNewPrivileges(); err != nil {
		return err
	}
	return verify(u, kept)
}

func values(keep []Capability) (list []cap.Value) {
	for _, k := range keep {
		list = append(list, cap.Value(k))
	}
	return list
}

// dropBounding takes capabilities out of what any program started from here could ever get. Only who has CAP_SETPCAP
// can; without, there is none to be had either, because of no_new_privs.
func dropBounding(kept []cap.Value) error {
	if may, err := cap.GetProc().GetFlag(cap.Effective, cap.SETPCAP); err != nil || !may {
		return err
	}
	var drop []cap.Value
	for v := range cap.MaxBits() {
		if bound, err := cap.GetBound(v); err == nil && bound && !slices.Contains(kept, v) {
			drop = append(drop, v)
		}
	}
	if err := cap.DropBound(drop...); err != nil {
		return fmt.Errorf("capabilities: bounding set: %w", err)
	}
	return nil
}

// enter changes user and groups of every thread, and leaves the permitted capabilities for keepOnly.
func (u *User) enter() error {
	if _, err := cap.Prctlw(unix.PR_SET_KEEPCAPS, 1); err != nil {
		return fmt.Errorf("prctl(PR_SET_KEEPCAPS): %w", err)
	}
	for _, step := range []struct {
		name string
		err  func() error
	}{
		{"setgroups", func() error { return syscall.Setgroups(u.Groups) }},
		{"setresgid", func() error { return syscall.Setresgid(u.GID, u.GID, u.GID) }},
		{"setresuid", func() error { return syscall.Setresuid(u.UID, u.UID, u.UID) }},
	} {
		if err := step.err(); err != nil {
			return fmt.Errorf("becoming user %s: %w", u.Name, os.NewSyscallError(step.name, err))
		}
	}
	_, err := cap.Prctlw(unix.PR_SET_KEEPCAPS, 0)
	return err
}

// keepOnly drops all other capabilities. What is kept is ambient, too: the successor of an upgrade is a program of a user
// who is not root.
func keepOnly(kept []cap.Value) error {
	have, only := cap.GetProc(), cap.NewSet()
	for _, v := range kept {
		if permitted, err := have.GetFlag(cap.Permitted, v); err != nil || !permitted {
			return errors.Join(err, fmt.Errorf("capability %s is needed (backend.client_address: transparent) and this process does not have it: start gatepost as root, or with AmbientCapabilities=%s in the unit", v, strings.ToUpper(v.String())))
		}
	}
	for _, flag := range []cap.Flag{cap.Permitted, cap.Effective, cap.Inheritable} {
		if err := only.SetFlag(flag, true, kept...); err != nil {
			return err
		}
	}
	if err := only.SetProc(); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if len(kept) == 0 {
		return nil
	}
	return cap.SetAmbient(true, kept...)
}

func noNewPrivileges() error {
	_, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	return err
}

// verify looks whether what was given up is gone, and tries to get it back.
func verify(u *User, kept []cap.Value) error {
	real, effective, saved := unix.Getresuid()
	if u != nil {
		groupReal, groupEffective, groupSaved := unix.Getresgid()
		if real != u.UID || effective != u.UID || saved != u.UID || groupReal != u.GID || groupEffective != u.GID || groupSaved != u.GID {
			return fmt.Errorf("this process should be user %d, group %d, and is %d/%d/%d, %d/%d/%d", u.UID, u.GID, real, effective, saved, groupReal, groupEffective, groupSaved)
		}
	}
	if real != 0 && (unix.Setresuid(-1, 0, -1) == nil || unix.Setresuid(0, -1, -1) == nil) {
		return errors.New("this process could become root again")
	}
	now := cap.GetProc()
	for v := range cap.MaxBits() {
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective, cap.Inheritable} {
			if set, err := now.GetFlag(flag, v); err == nil && set && !slices.Contains(kept, v) {
				return fmt.Errorf("this process still has the capability %s", v)
			}
		}
	}
	return nil
}
