package confine

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// NoDumps keeps memory, with mail and passwords in it, out of core files, and from debuggers of the same user. A change of
// user and the start of a program undo the second part.
func NoDumps() error {
	return errors.Join(noCore(), os.NewSyscallError("prctl(PR_SET_DUMPABLE)", unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)))
}
