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
	places []*session // who waits, by descriptor
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
	return &lot{file: file, raw: raw, fd: fd, wheel: wheel{start: time.Now()}}, nil
}

// park hands the session over. Arming happens under the mutex: nobody can wake the session, and so close its
// descriptor, before epoll_ctl has returned.
func (l *lot) park(s *session, w wait) (wake, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.mustNotWait() {
		return wakeShutdown, true
	}
	l.enter(s, w.limit)
	if !w.input {
		return 0, false
	}
	if err := l.arm(s, clientInput); err != nil {
		l.leave(s)
		s.log().Error("a client's socket cannot be watched; its session ends", "error", err)
		s.broken, s.note = true, "socket error"
		return wakeTime, true
	}
	return 0, false
}

// bells are for goroutines that wait; each is empty.
var bells = sync.Pool{New: func() any { return make(chan wake, 1) }}

// await is park for a goroutine that keeps the session in its hands: in the middle of a message, of a handshake, or of a
// reply that the client does not read.
func (l *lot) await(s *session, events uint32, limit time.Duration) wake {
	bell := bells.Get().(chan wake)
	defer bells.Put(bell)
	l.mu.Lock()
	if s.server.killed.Load() {
		if events != syscall.EPOLLOUT {
			l.mu.Unlock()
			return wakeShutdown
		}
		limit = min(limit, lastWords)
	}
	l.enter(s, limit)
	s.interrupt = bell
	if err := l.arm(s, events); err != nil {
		l.leave(s)
		l.mu.Unlock()
		s.log().Error("a client's socket cannot be watched; its session ends", "error", err)
		return wakeShutdown
	}
	l.mu.Unlock()
	return <-bell
}

// enter lets the session wait; the caller holds the mutex.
func (l *lot) enter(s *session, limit time.Duration) {
	s.place.generation++
	s.place.waits = true
	for s.conn.fd >= len(l.places) {
		l.places = append(l.places, nil)
	}
	l.places[s.conn.fd] = s
	l.wheel.set(s, time.Now(), limit)
}

// clientInput is what a session waits for between commands: input, or the end of it.
const clientInput = syscall.EPOLLIN | syscall.EPOLLRDHUP

// arm asks for one event. EPOLLONESHOT, because edge-triggered events hide a FIN that comes with the last data.
func (l *lot) arm(s *session, events uint32) error {
	fd := s.conn.fd
	event := syscall.EpollEvent{
		Events: events | syscall.EPOLLONESHOT,
		Fd:     int32(fd),
		Pad:    int32(s.place.generation),
	}
	op := syscall.EPOLL_CTL_MOD
	if !s.place.armed {
		op, s.place.armed = syscall.EPOLL_CTL_ADD, true
	}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(l.fd, op, fd, &event))
}

// leave takes the session out; the caller holds the mutex and lets the session go on next.
func (l *lot) leave(s *session) (bell chan wake) {
	s.place.waits = false
	l.places[s.conn.fd] = nil
	l.wheel.clear(s)
	bell, s.interrupt = s.interrupt, nil
	return bell
}

// roused is a session that has left, and how it goes on.
type roused struct {
	session *session
	bell    chan wake // of the goroutine that waits with it; nil: there is none
}

// goOn lets the session run. Running it here instead was measured to be erratic: one slow session holds up all others.
func (r roused) goOn(why wake) {
	if r.bell != nil {
		r.bell <- why
		return
	}
	go r.session.drive(why)
}

func (l *lot) rouse(s *session) {
	l.mu.Lock()
	waits := s.place.waits && (s.interrupt == nil || s.server.killed.Load())
	var r roused
	if waits {
		r = roused{s, l.leave(s)}
	}
	l.mu.Unlock()
	if waits {
		r.goOn(wakeShutdown)
	}
}

// run lets sessions go on whose client or time has come.
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
	ready := make([]roused, 0, len(events))
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
				ready = append(ready, roused{s, l.leave(s)})
			}
		}
		l.mu.Unlock()
		for _, r := range ready {
			r.goOn(wakeInput)
		}
		clear(ready)
		ready = ready[:0]
	}
}

func (l *lot) watchTime(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var due []*session
	var ready []roused
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			l.mu.Lock()
			due = l.wheel.expire(now, due[:0])
			for _, s := range due {
				ready = append(ready, roused{s, l.leave(s)})
			}
			l.mu.Unlock()
			for _, r := range ready {
				r.goOn(wakeTime)
			}
			clear(due)
			clear(ready)
			ready = ready[:0]
		}
	}
}
