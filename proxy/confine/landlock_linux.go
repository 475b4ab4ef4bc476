package confine

import (
	"errors"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Versions of Landlock: files can be renamed between folders (the quarantine does), TCP ports.
const (
	abiRefer = 2
	abiTCP   = 4
)

// Available tells what the kernel can do.
func Available() Extent {
	switch version, err := syscall.LandlockGetABIVersion(); {
	case err != nil || version < abiRefer:
		return Nothing
	case version < abiTCP:
		return Files
	}
	return FilesTCP
}

const (
	read  landlock.AccessFSSet = syscall.AccessFSReadFile | syscall.AccessFSReadDir
	write landlock.AccessFSSet = read | syscall.AccessFSWriteFile | syscall.AccessFSTruncate | syscall.AccessFSRemoveFile | syscall.AccessFSRemoveDir |
		syscall.AccessFSMakeReg | syscall.AccessFSMakeDir | syscall.AccessFSMakeSock | syscall.AccessFSRefer
	execute landlock.AccessFSSet = read | syscall.AccessFSExecute
	ofFiles landlock.AccessFSSet = syscall.AccessFSReadFile | syscall.AccessFSWriteFile | syscall.AccessFSTruncate | syscall.AccessFSExecute
)

// restrict confines all threads. Listening is left free: `gatepost upgrade` takes new addresses, and what is below 1024
// needs a capability that is gone. Signals and abstract sockets are, too: before Linux 6.15 their restriction hits Go's own
// signals between threads.
func restrict(g *Grant, extent Extent) error {
	all := landlock.V5
	config := landlock.Config{HandledAccessFS: all.HandledAccessFS}
	if extent == FilesTCP && g.Ports != nil {
		config.HandledAccessNet = syscall.AccessNetConnectTCP
	}
	var rules []landlock.Rule
	for _, kind := range []struct {
		access landlock.AccessFSSet
		paths  []string
	}{{read, g.Read}, {execute, g.Execute}, {write, g.Write}} {
		for _, path := range kind.paths {
			access := kind.access
			if info, err := os.Stat(path); err != nil || !info.IsDir() {
				access &= ofFiles
			}
			rules = append(rules, landlock.PathAccess(access, path).IgnoreIfMissing())
		}
	}
	rules = append(rules, landlock.PathAccess(read&ofFiles|syscall.AccessFSWriteFile, "/dev/null").IgnoreIfMissing())
	if config.HandledAccessNet != 0 {
		for _, port := range g.Ports {
			rules = append(rules, landlock.ConnectTCP(port))
		}
	}
	return config.BestEffort().Restrict(rules...)
}

// confined tells whether the process is: nobody is granted the root folder as a whole. Modes would not forbid to list it.
func confined() bool {
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return errors.Is(err, unix.EACCES)
}
