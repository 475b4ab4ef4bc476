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

	mu      sync.Mutex // guards all below, and place, timer and due of every session
	wheel   wheel
	places  []*session // whose descriptor is watched, by that
	watches uint32     // how many there have been
	// bells are of the goroutines that wait with a session in their hands: few, so that a place in each session would be
	// empty in most.
	bells map[*session]chan wake
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
	return &lot{file: file, raw: raw, fd: fd, wheel: wheel{start: time.Now()}, bells: make(map[*session]chan wake)}, nil
}

// park hands the session over. Arming happens under the mutex: nobody can wake the session, and so close its
// descriptor, before epoll_ctl has returned.
func (l *lot) park(s *session, w wait) (wake, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.mustNotWait() {
		return wakeShutdown, true
	}
	if w.input {
		if s.place.take() {
			return wakeInput, true
		}
		if err := l.watch(s, clientInput, w.again); err != nil {
			s.log().Error("a client's socket cannot be watched; its session ends", "error", err)
			s.broken, s.note = true, endSocketError
			return wakeTime, true
		}
	}
	l.enter(s, w)
	return 0, false
}

// spareBells are for goroutines that wait; each is empty.
var spareBells = sync.Pool{New: func() any { return make(chan wake, 1) }}

// await is park for a goroutine that keeps the session in its hands: in the middle of a message, of a handshake, or of a
// reply that the client does not read.
func (l *lot) await(s *session, events uint32, limit time.Duration) wake {
	bell := spareBells.Get().(chan wake)
	defer spareBells.Put(bell)
	l.mu.Lock()
	if s.server.killed.Load() {
		if events != syscall.EPOLLOUT {
			l.mu.Unlock()
			return wakeShutdown
		}
		limit = min(limit, lastWords)
	}
	if events == clientInput && s.place.take() {
		l.mu.Unlock()
		return wakeInput
	}
	if err := l.watch(s, events, events == clientInput && s.place.watch == watchAlways); err != nil {
		l.mu.Unlock()
		s.log().Error("a client's socket cannot be watched; its session ends", "error", err)
		return wakeShutdown
	}
	l.enter(s, wait{input: true, limit: limit})
	l.bells[s] = bell
	l.mu.Unlock()
	return <-bell
}

// enter lets the session wait; the caller holds the mutex.
func (l *lot) enter(s *session, w wait) {
	s.place.waits = forTime
	if w.input {
		s.place.waits = forInput
	}
	l.wheel.set(s, time.Now(), w.limit)
}

// clientInput is what a session waits for between commands: input, or the end of it.
const clientInput = syscall.EPOLLIN | syscall.EPOLLRDHUP

// edge is EPOLLET, which package syscall has with the wrong sign.
const edge = 1 << 31

// watch has the kernel tell of the events; the caller holds the mutex. Who waits again and again, as between commands, is
// watched from then on: what comes while the session runs is noted for its next wait. That saves a system call for each
// command, and costs one for each piece of a large message:
// so those are read without ([lot.hush]).
func (l *lot) watch(s *session, events uint32, always bool) error {
	how := watchOnce
	if always {
		how = watchAlways
	}
	if how == watchAlways && s.place.watch == watchAlways {
		return nil
	}
	fd := s.conn.fd
	for fd >= len(l.places) {
		l.places = append(l.places, nil)
	}
	l.places[fd] = s
	l.watches++
	s.place.name = l.watches
	event := syscall.EpollEvent{Events: events | how.flag(), Fd: int32(fd), Pad: int32(s.place.name)}
	op := syscall.EPOLL_CTL_MOD
	if s.place.watch == watchNever {
		op = syscall.EPOLL_CTL_ADD
	}
	s.place.watch = how
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(l.fd, op, fd, &event))
}

func (w watchKind) flag() uint32 {
	if w == watchAlways {
		return edge
	}
	return syscall.EPOLLONESHOT
}

// hush ends watchAlways until the session waits next: each piece that comes would wake the watcher.
func (l *lot) hush(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.place.watch == watchAlways {
		l.watch(s, 0, false)
	}
}

// note takes note of an event, and lets the session go on if that is what it waits for. The caller holds the mutex.
func (l *lot) note(e syscall.EpollEvent) (r roused, wakes bool) {
	s := l.places[e.Fd]
	// A batch may hold events of a descriptor that was closed, and used again, since the kernel filled it.
	if s == nil || int32(s.place.name) != e.Pad {
		return roused{}, false
	}
	// The end of the stream is told once, and may be so together with the last input, which is read first.
	s.place.ended = s.place.ended || e.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP|syscall.EPOLLERR) != 0
	if s.place.waits != forInput {
		s.place.ready = true
		return roused{}, false
	}
	return roused{s, l.leave(s)}, true
}

// leave takes the session out; the caller holds the mutex and lets the session go on next.
func (l *lot) leave(s *session) (bell chan wake) {
	s.place.waits = forNothing
	l.wheel.clear(s)
	if bell = l.bells[s]; bell != nil {
		delete(l.bells, s)
	}
	return bell
}

func (l *lot) forget(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.place.watch != watchNever {
		l.places[s.conn.fd] = nil
	}
}

// roused is a session that has left, and how it goes on.
type roused struct {
	session *session
	bell    chan wake // of the goroutine that waits with it; nil: there is none
}

// goOn lets the session run. Running it here instead was measured to be erratic: one slow session holds up all others. And
// goroutines that stay for the next session, with their stacks, took 4 % more processor time than new ones.
func (r roused) goOn(why wake) {
	if r.bell != nil {
		r.bell <- why
		return
	}
	go r.session.drive(why)
}

func (l *lot) look(s *session, f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.place.waits != forNothing && l.bells[s] == nil {
		f()
	}
}

func (l *lot) rouse(s *session) {
	l.mu.Lock()
	waits := s.place.waits != forNothing && (l.bells[s] == nil || s.server.killed.Load())
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

// watchSockets never returns from its callback with true: then the runtime would forget, before the next look, what has
// come meanwhile, and each batch of events would take a second look that finds nothing.
func (l *lot) watchSockets() {
	events := make([]syscall.EpollEvent, 256)
	ready := make([]roused, 0, len(events))
	l.raw.Read(func(fd uintptr) bool {
		for n := len(events); n == len(events); {
			n = nowait.Events(fd, events)
			l.mu.Lock()
			for _, e := range events[:n] {
				if r, wakes := l.note(e); wakes {
					ready = append(ready, r)
				}
			}
			l.mu.Unlock()
			for _, r := range ready {
				r.goOn(wakeInput)
			}
			clear(ready)
			ready = ready[:0]
		}
		return false // until the descriptor is closed
	})
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
