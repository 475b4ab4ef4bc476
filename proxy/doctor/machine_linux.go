package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// listenerOf asks the kernel who listens on a UNIX socket.
func listenerOf(socket string) (pid int32, err error) {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var peer *unix.Ucred
	asked := raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(asked, err); err != nil {
		return 0, err
	}
	return peer.Pid, nil
}

// rightsOf reads proc_pid_status(5).
func rightsOf(socket string) (rights, error) {
	pid, err := listenerOf(socket)
	if err != nil {
		return rights{}, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return rights{}, err
	}
	return parseRights(string(text))
}

func parseRights(status string) (r rights, err error) {
	found := 0
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		var wrong error
		switch name {
		case "Uid":
			r.user, wrong = strconv.Atoi(fields[min(1, len(fields)-1)]) // the effective one
		case "CapEff":
			r.capabilities, wrong = strconv.ParseUint(fields[0], 16, 64)
		case "NoNewPrivs":
			r.noNewPrivileges = fields[0] == "1"
		case "Seccomp":
			r.seccomp = fields[0] != "0"
		default:
			continue
		}
		if wrong != nil {
			return rights{}, wrong
		}
		found++
	}
	if found < 4 {
		return rights{}, errUnknown
	}
	return r, nil
}

// openFilesOf asks the kernel who listens, and reads that process' limit.
func openFilesOf(socket string) (uint64, error) {
	pid, err := listenerOf(socket)
	if err != nil {
		return 0, err
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(limits) {
		if rest, ok := strings.CutPrefix(string(line), "Max open files"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				return strconv.ParseUint(fields[0], 10, 64)
			}
		}
	}
	return 0, errUnknown
}

func memory() (uint64, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0, err
	}
	total := uint64(info.Totalram) * uint64(info.Unit)
	if text, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil { // in a container; "max": no limit
		if limit, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
			total = min(total, limit)
		}
	}
	return total, nil
}

// synchronised asks the kernel, whom NTP daemons tell (adjtimex(2)).
func synchronised() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return false, err
	}
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, nil
}
