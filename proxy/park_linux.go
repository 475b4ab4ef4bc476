package proxy

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"gatepost/proxy/nowait"
)

// lot is the parker for Linux. A waiting session costs its struct: the kernel watches its socket on an epoll
// descriptor of ours, and a wheel watches the time.
//
// The epoll descriptor itself is waited for by Go's own poller. A goroutine that blocks in epoll_wait would keep a
// thread and cost a thread switch per wake-up, which was measured to be a quarter slower.
type lot struct {
	file *os.File // the epoll descriptor
	raw  syscall.RawConn
	fd   int

	mu     sync.Mutex // guards all below, and the place and timer of every session
	wheel  wheel
	places map[int32]*session // who waits, by descriptor
}

func newParker() (parker, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // else os.NewFile would not hand it to Go's poller
		syscall.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	file := os.NewFile(uintptr(fd), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return &lot{file: file, raw: raw, fd: fd, wheel: wheel{start: time.Now()}, places: make(map[int32]*session)}, nil
}

// park hands the session over. Arming happens under the mutex: nobody can wake the session, and so close its
// descriptor, before epoll_ctl has returned.
func (l *lot) park(s *session, w wait) (wake, bool) {
	fd := s.conn.fd
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.mustNotWait() {
		return wakeShutdown, true
	}
	s.place.generation++
	s.place.waits = true
	l.places[int32(fd)] = s
	l.wheel.set(s, time.Now(), w.limit)
	if !w.input {
		return 0, false
	}
	if err := l.arm(s, fd); err != nil {
		l.leave(s)
		s.log().Error("a client's socket cannot be watched; its session ends", "error", err)
		s.broken, s.note = true, "socket error"
		return wakeTime, true
	}
	return 0, false
}

// arm asks for one event. EPOLLONESHOT, because edge-triggered events hide a FIN that comes with the last data.
func (l *lot) arm(s *session, fd int) error {
	event := syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT,
		Fd:     int32(fd),
		Pad:    int32(s.place.generation),
	}
	op := syscall.EPOLL_CTL_MOD
	if !s.place.armed {
		op, s.place.armed = syscall.EPOLL_CTL_ADD, true
	}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(l.fd, op, fd, &event))
}

// leave takes the session out; the caller holds the mutex and runs the session next.
func (l *lot) leave(s *session) {
	s.place.waits = false
	delete(l.places, int32(s.conn.fd))
	l.wheel.clear(s)
}

func (l *lot) rouse(s *session) {
	l.mu.Lock()
	waits := s.place.waits
	if waits {
		l.leave(s)
	}
	l.mu.Unlock()
	if waits {
		go s.drive(wakeShutdown)
	}
}

// run hands sessions whose client or time has come to goroutines of their own. Running them here instead was
// measured to be erratic: one slow session holds up all others.
func (l *lot) run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(l.watchSockets)
	loops.Go(func() { l.watchTime(ctx) })
	<-ctx.Done()
	l.file.Close()
	loops.Wait()
}

func (l *lot) watchSockets() {
	events := make([]syscall.EpollEvent, 256)
	ready := make([]*session, 0, len(events))
	for {
		n := 0
		err := l.raw.Read(func(fd uintptr) bool {
			n = nowait.Events(fd, events)
			return n > 0
		})
		if err != nil { // closed
			return
		}
		l.mu.Lock()
		for _, e := range events[:n] {
			// A batch may hold events of a descriptor that was closed, and used again, since the kernel filled it.
			if s := l.places[e.Fd]; s != nil && int32(s.place.generation) == e.Pad {
				l.leave(s)
				ready = append(ready, s)
			}
		}
		l.mu.Unlock()
		for i, s := range ready {
			go s.drive(wakeInput)
			ready[i] = nil
		}
		ready = ready[:0]
	}
}

func (l *lot) watchTime(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var due []*session
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			l.mu.Lock()
			due = l.wheel.expire(now, due[:0])
			for _, s := range due {
				l.leave(s)
			}
			l.mu.Unlock()
			for i, s := range due {
				go s.drive(wakeTime)
				due[i] = nil
			}
		}
	}
}
