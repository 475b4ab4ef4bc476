package called

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"gatepost/filters"
	"gatepost/proxy/front"
	"gatepost/proxy/sockets"
)

// Entry is one entry of the configuration under which MTAs call.
type Entry interface {
	Common() Listen
}

// Listen is what all such entries have.
type Listen struct {
	// Address to listen on for MTAs: unix:/run/gatepost/mta.sock, or inet:127.0.0.1:8891 (as sendmail writes it,
	// inet:8891@127.0.0.1, is good too; inet6: likewise).
	Address string `yaml:"address"`
	// Mode is the permissions of a UNIX socket, in octal: who may write to it may call.
	Mode string `yaml:"mode"`
	// Group that owns a UNIX socket, such as postfix; empty: that of this process.
	Group string `yaml:"group"`
	// Peers are the networks that MTAs may call from by TCP; others are turned away. Empty: this machine alone.
	Peers []netip.Prefix `yaml:"peers"`
}

// SetDefaults fills in what an entry does not say.
func (l *Listen) SetDefaults() { l.Mode = "0660" }

// Common is the entry itself.
func (l Listen) Common() Listen { return l }

// maxSocketPath is how long the name of a UNIX socket can be on every system that we know (sockaddr_un).
const maxSocketPath = 103

// Validate reports everything that is wrong without touching files or sockets.
func (l *Listen) Validate() error {
	var errs filters.KeyErrors
	if network, address, err := l.endpoint(); err != nil {
		errs.Add("address", "%v", err)
	} else if network == "unix" && len(address) > maxSocketPath {
		errs.Add("address", "%s is too long by %d characters for the name of a socket", address, len(address)-maxSocketPath)
	}
	if _, err := l.permissions(); err != nil {
		errs.Add("mode", "%v", err)
	}
	return errs.OrNil()
}

func (l *Listen) permissions() (fs.FileMode, error) {
	mode, err := strconv.ParseUint(l.Mode, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("%q is no mode such as 0660", l.Mode)
	}
	return fs.FileMode(mode), nil
}

// endpoint is the address in Go's words.
func (l *Listen) endpoint() (network, address string, err error) {
	kind, rest, _ := strings.Cut(l.Address, ":")
	switch kind {
	case "unix", "local":
		if !filepath.IsAbs(rest) {
			return "", "", fmt.Errorf("%q does not name a file with its whole path, such as unix:/run/gatepost/mta.sock", l.Address)
		}
		return "unix", rest, nil
	case "inet", "inet6":
		if port, host, at := strings.Cut(rest, "@"); at {
			rest = net.JoinHostPort(strings.Trim(host, "[]"), port)
		}
		if _, port, err := net.SplitHostPort(rest); err != nil || port == "" {
			break
		}
		network = map[string]string{"inet": "tcp4", "inet6": "tcp6"}[kind]
		return network, rest, nil
	}
	return "", "", fmt.Errorf("%q is neither unix:/path nor inet:host:port", l.Address)
}

// accepts tells whether a peer may call.
func (l *Listen) accepts(peer net.Addr) bool {
	tcp, ok := peer.(*net.TCPAddr)
	if !ok { // the permissions of the socket have decided
		return true
	}
	from := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range l.Peers {
		if p.Contains(from) {
			return true
		}
	}
	return len(l.Peers) == 0 && from.IsLoopback()
}

// Bound is an entry with its socket.
type Bound[L Entry] struct {
	Entry L
	net.Listener
}

// Socket describes the socket of a valid entry.
func (l Listen) Socket(use sockets.Use) sockets.Want {
	network, address, _ := l.endpoint()
	return sockets.Want{Use: use, Name: l.Address, Network: network, Address: address}
}

// Bind opens the socket of an entry, unless it was given to the process. A UNIX socket that a dead process left is replaced;
// its folder must exist.
func Bind[L Entry](ctx context.Context, entry L, use sockets.Use, given *sockets.Set) (Bound[L], error) {
	l := entry.Common()
	network, address, err := l.endpoint()
	if err != nil {
		return Bound[L]{}, err
	}
	want := l.Socket(use)
	if network == "unix" && !given.Gives(want) {
		err = front.RemoveStale(address)
	}
	var socket net.Listener
	inherited := false
	if err == nil {
		socket, inherited, err = given.Listen(ctx, want)
	}
	if err == nil && network == "unix" && !inherited {
		if err = l.admit(address); err != nil {
			socket.Close()
		}
	}
	if err != nil {
		return Bound[L]{}, fmt.Errorf("listen on %s: %w", l.Address, err)
	}
	return Bound[L]{entry, socket}, nil
}

// admit lets those use the socket who may.
func (l *Listen) admit(path string) error {
	mode, err := l.permissions()
	if err != nil {
		return err
	}
	if l.Group != "" {
		group, err := user.LookupGroup(l.Group)
		if err != nil {
			return err
		}
		id, err := strconv.Atoi(group.Gid)
		if err != nil {
			return err
		}
		if err := os.Chown(path, -1, id); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}
