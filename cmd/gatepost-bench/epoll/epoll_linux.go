package epoll

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Poller waits for many descriptors at once. It belongs to one goroutine.
type Poller struct {
	fd     int
	events [256]unix.EpollEvent
}

// New makes a poller. It has to be closed.
func New() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &Poller{fd: fd}, nil
}

// Close forgets all descriptors; they stay open.
func (p *Poller) Close() error { return unix.Close(p.fd) }

// Add starts to watch fd, level-triggered. A descriptor that is closed is forgotten by itself.
func (p *Poller) Add(fd int, events uint32) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// Modify changes what fd is watched for.
func (p *Poller) Modify(fd int, events uint32) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// Wait returns what is ready, nothing after the given number of milliseconds or a signal. The result is valid until the
// next call.
func (p *Poller) Wait(milliseconds int) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.fd, p.events[:], milliseconds)
	if err != nil {
		if errors.Is(err, unix.EINTR) {
			err = nil
		}
		return nil, err
	}
	return p.events[:n], nil
}
