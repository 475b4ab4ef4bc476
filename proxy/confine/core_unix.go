//go:build unix

package confine

import (
	"os"

	"golang.org/x/sys/unix"
)

func noCore() error {
	return os.NewSyscallError("setrlimit(RLIMIT_CORE)", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
}
