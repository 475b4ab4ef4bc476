package doctor

import (
	"crypto/x509"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"time"

	"gatepost/proxy/confine"
)

// machine is what the checks ask of the computer.
type machine struct {
	now  func() time.Time
	stat func(path string) (fs.FileInfo, error)
	// owner names who owns a file.
	owner func(fs.FileInfo) string
	// writable is why the user of this process cannot make files in a folder, or nil.
	writable func(folder string) error
	// space is the bytes of the disk that a folder is on.
	space func(folder string) (free, total uint64, err error)
	// openFiles is the limit of the process that listens on a UNIX socket; empty: of this one.
	openFiles func(socket string) (uint64, error)
	// rights of the process that listens on a UNIX socket.
	rights func(socket string) (rights, error)
	// confines tells whether the kernel has Landlock.
	confines func() bool
	// memory is in bytes; what a control group allows, if that is less.
	memory       func() (uint64, error)
	synchronised func() (bool, error)
	// addresses of the machine, loopback ones included.
	addresses func() ([]netip.Addr, error)
	roots     *x509.CertPool // nil: the system's
}

func thisMachine() machine {
	return machine{
		now:          time.Now,
		stat:         os.Stat,
		owner:        owner,
		writable:     writable,
		space:        space,
		openFiles:    openFiles,
		rights:       rightsOf,
		confines:     func() bool { return confine.Available() != confine.Nothing },
		memory:       memory,
		synchronised: synchronised,
		addresses:    ownAddresses,
	}
}

func ownAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var list []netip.Addr
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			list = append(list, prefix.Addr().Unmap())
		}
	}
	return list, nil
}
