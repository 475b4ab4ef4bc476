package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"gatepost/proxy"
	"gatepost/proxy/handover"
	"gatepost/proxy/sockets"
)

const (
	// successorPatience is how long a successor may take until it wants the state: it reads the configuration and asks the
	// backends; and then, again, until it serves.
	successorPatience = 60 * time.Second
	// maxNews bounds what is on its way to the successor about sessions here.
	maxNews = 1 << 16
	// handoverFormat is of what goes over the link. Fields and calls are added without another.
	handoverFormat = 1
)

var errSucceeded = errors.New("another gatepost has taken over; this one only finishes its sessions")

var errEnding = errors.New("this gatepost is ending")

// succession is the successor that a process starts, once it has served.
type succession struct {
	running sync.WaitGroup // the link, and what goes over it

	mu     sync.Mutex // guards all below
	link   *handover.Link
	served chan struct{} // closed when the successor serves
	ending chan struct{} // closed when this process ends: no other may begin to take over
}

// happened is closed when a successor serves.
func (s *succession) happened() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready()
	return s.served
}

// ready makes the channels; the caller holds the mutex.
func (s *succession) ready() {
	if s.served == nil {
		s.served, s.ending = make(chan struct{}), make(chan struct{})
	}
}

// forbid keeps others from taking over: this process ends. A hand-over that is under way is given up.
func (s *succession) forbid() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready(); !s.forbidden() {
		close(s.ending)
	}
}

// forbidden tells that this process ends; the caller holds the mutex.
func (s *succession) forbidden() bool {
	select {
	case <-s.ending:
		return true
	default:
		return false
	}
}

// enter notes the link to a successor that serves; false: this process is ending.
func (s *succession) enter(l *handover.Link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready(); s.forbidden() {
		return false
	}
	s.link = l
	close(s.served)
	return true
}

func (s *succession) ends() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready()
	return s.ending
}

func (s *succession) done() bool {
	select {
	case <-s.happened():
		return true
	default:
		return false
	}
}

// end lets the successor know that nothing comes any more.
func (s *succession) end() {
	s.mu.Lock()
	if s.link != nil {
		s.link.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// candidate is a successor until it serves, or does not.
type candidate struct {
	house   *house
	process *os.Process
	state   *os.ProcessState // when it has ended
	link    *handover.Link
	baton   *sockets.Baton
	ended   chan struct{} // closed when the process has ended
	failed  chan string   // why it cannot serve; capacity 1
	news    chan proxy.News

	mu       sync.Mutex // guards all below; held while one of the steps is made
	given    bool       // the state, or a part of it
	served   bool
	rejected bool

	released, serving chan struct{} // closed with the steps
}

// handOver starts a successor from a binary, empty: the one that is installed, and returns when that serves, with its
// process number. If it does not, this process goes on as if nothing had happened, and the error says why.
func (h *house) handOver(binary string) (pid int, err error) {
	if os.Getpid() == 1 {
		return 0, errors.New("this is process 1 of a container, which ends with it: replace the container instead")
	}
	if !h.changing.TryLock() {
		return 0, errors.New("a reload or an upgrade is under way already")
	}
	defer h.changing.Unlock()
	select {
	case <-h.succession.happened():
		return 0, errSucceeded
	case <-h.succession.ends():
		return 0, errEnding
	default:
	}
	if binary == "" {
		binary = ownBinary
	}
	h.log.Info("upgrade: starting the successor", "binary", binary)
	s, err := h.startSuccessor(binary)
	if err == nil {
		err = s.await()
	}
	if err != nil {
		h.log.Error("upgrade: the successor does not serve; this gatepost goes on", "error", err)
		return 0, err
	}
	h.log.Info("upgrade: the successor serves; sessions of this gatepost finish here", "pid", s.process.Pid, "sessions", h.server.Metrics().Open.Load())
	return s.process.Pid, nil
}

// startSuccessor runs a binary with our arguments, our sockets, and an end of a link.
func (h *house) startSuccessor(binary string) (s *candidate, err error) {
	baton, err := h.sockets.Pass()
	if err != nil {
		return nil, err
	}
	s = &candidate{house: h, baton: baton, ended: make(chan struct{}), failed: make(chan string, 1), news: make(chan proxy.News, maxNews),
		released: make(chan struct{}), serving: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.sockets.Back(baton))
		}
	}()
	ours, theirs, err := linkPair()
	if err != nil {
		return nil, err
	}
	defer syscall.Close(theirs)
	if s.process, err = baton.Start(binary, os.Args, theirs); err != nil {
		if errors.Is(err, fs.ErrPermission) && h.confined != nil {
			err = fmt.Errorf("%w; a confined gatepost may start what is in %s", err, strings.Join(h.confined.Execute, ", "))
		}
		return nil, errors.Join(fmt.Errorf("the new binary cannot be started: %w", err), ours.Close())
	}
	s.link = handover.NewLink(ours, h.log)
	s.link.Handle("release", s.release)
	s.link.Handle("served", s.isServed)
	s.link.HandleNotice("failed", s.hasFailed)
	go func() { s.state, _ = s.process.Wait(); close(s.ended) }()
	h.succession.running.Go(func() {
		if err := s.link.Run(context.Background()); err != nil {
			h.log.Error("upgrade: the link to the successor", "error", err)
		}
	})
	return s, nil
}

// linkPair is a pair of connected sockets, one as a descriptor for another process.
func linkPair() (ours net.Conn, theirs int, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, -1, os.NewSyscallError("socketpair", err)
	}
	file := os.NewFile(uintptr(fds[0]), "link")
	defer file.Close()
	if ours, err = net.FileConn(file); err != nil {
		syscall.Close(fds[1])
	}
	return ours, fds[1], err
}

// await returns when the successor serves. Else it ends the successor, takes everything back, and says why.
func (s *candidate) await() error {
	why := s.awaitStep(s.released, "it was not ready")
	if why == nil {
		why = s.awaitStep(s.serving, "it did not serve")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.served { // perhaps a moment too late: what has been handed over stays handed over
		return nil
	}
	s.rejected = true
	_ = s.process.Kill()
	<-s.ended // from now on nobody else has the state
	s.link.Close()
	h := s.house
	if err := h.sockets.Back(s.baton); err != nil {
		why = errors.Join(why, err)
	}
	if s.given {
		why = errors.Join(why, h.takeBack(s.link))
	}
	return why
}

func (s *candidate) awaitStep(step <-chan struct{}, late string) error {
	patience := time.NewTimer(successorPatience)
	defer patience.Stop()
	select {
	case <-step:
		return nil
	case text := <-s.failed:
		return errors.New(text)
	case <-s.house.succession.ends():
		return errEnding
	case <-s.ended:
		select {
		case <-s.link.Done(): // what it has said before has been heard
		case <-time.After(time.Second):
		}
	case <-s.link.Done():
		select {
		case <-s.ended:
		case <-time.After(time.Second):
		}
	case <-patience.C:
		return fmt.Errorf("the new gatepost: %s within %v", late, successorPatience)
	}
	select {
	case text := <-s.failed: // it has said so with its last breath
		return errors.New(text)
	default:
		select {
		case <-s.ended:
			return fmt.Errorf("the new gatepost ended before it served: %v", s.state)
		default:
			return errors.New("the new gatepost broke off before it served")
		}
	}
}

// hasFailed is told why the successor gives up.
func (s *candidate) hasFailed(body []byte) {
	var text string
	if handover.Decode(body, &text) == nil {
		select {
		case s.failed <- text:
		default:
		}
	}
}

// legacy is what a successor gets when it asks for the state.
type legacy struct {
	Format   int
	Lane     uint32 // of names for sessions
	Bypass   time.Time
	Heritage proxy.Heritage
}

// introduction is what it says of itself.
type introduction struct {
	Format  int
	Version string
	PID     int
}

// release lets go of everything that one process alone may own.
func (s *candidate) release(_ context.Context, body []byte, _ func(any) error) (any, error) {
	var of introduction
	if err := handover.Decode(body, &of); err != nil {
		return nil, err
	}
	if of.Format != handoverFormat {
		return nil, fmt.Errorf("it hands over in another way (%d, and this gatepost %d): stop this one and start it", of.Format, handoverFormat)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rejected || s.given {
		return nil, errors.New("too late")
	}
	h := s.house
	h.log.Info("upgrade: the successor is ready; it gets store, journal and quarantine", "version", of.Version, "pid", of.PID)
	s.given = true
	h.closeForOperators()
	if err := h.disown(); err != nil {
		return nil, fmt.Errorf("the old gatepost cannot let go of its state: %w", err)
	}
	if filter := h.limiter(); filter != nil {
		limits := handover.NewRemote(s.link, "limits")
		filter.Taken(func(b bucket, n int64) bool { limits.Take(b, n); return true })
	}
	left := legacy{Format: handoverFormat, Lane: h.ids.Lane(), Bypass: h.runtime.Bypass.Until(), Heritage: h.server.Bequeath(s.tell, s.find)}
	close(s.released)
	return left, nil
}

// tell has news of sessions here told to the successor; more than can be on their way are lost.
func (s *candidate) tell(n proxy.News) {
	select {
	case s.news <- n:
	default:
	}
}

const findPatience = 2 * time.Second

// find asks the successor for a delivery.
func (s *candidate) find(fingerprints []string) (id string) {
	ctx, cancel := context.WithTimeout(context.Background(), findPatience)
	defer cancel()
	if err := s.link.Call(ctx, "find", fingerprints, &id); err != nil {
		return ""
	}
	return id
}

// isServed makes the successor the owner for good, and stops accepting.
func (s *candidate) isServed(context.Context, []byte, func(any) error) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rejected || !s.given {
		return nil, errors.New("too late")
	}
	h := s.house
	if !h.succession.enter(s.link) {
		return nil, errEnding
	}
	s.served = true
	h.follow(s.link)
	h.succession.running.Go(s.report)
	h.stopAccepting()
	s.baton.Close()
	close(s.serving)
	return nil, nil
}

// report tells the successor the news until the link ends.
func (s *candidate) report() {
	for {
		select {
		case n := <-s.news:
			_ = s.link.Notify("news", n)
		case <-s.link.Done():
			return
		}
	}
}

// closeForOperators lets nobody in any more for commands and pages, and waits for the pages. What commands are being
// answered may go on: one of them is this.
func (h *house) closeForOperators() {
	if h.control != nil {
		h.control.StopAccepting()
	}
	if h.stopAdmin != nil {
		h.stopAdmin()
		h.stopAdmin = nil
	}
}

// takeBack makes this process the owner again after a hand-over that came to nothing.
func (h *house) takeBack(l *handover.Link) error {
	h.server.Bequeath(nil, nil)
	if err := h.own(); err != nil {
		h.log.Error("upgrade: the state cannot be had again; mail goes on without memory: restart gatepost", "error", err)
		h.follow(l) // which has ended: nobody waits for its answers
		return err
	}
	return h.openForOperators()
}

// stopAccepting leaves new clients and MTAs to the successor.
func (h *house) stopAccepting() {
	h.server.StopAccepting()
	h.milter.StopAccepting()
	h.policyServer.StopAccepting()
}

// drained is closed when the last session here has ended, and the last one of a process that asks this one.
func (h *house) drained() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-h.server.Drained()
		<-h.milter.Drained()
		<-h.policyServer.Drained()
		if h.predecessor != nil {
			<-h.predecessor.link.Done()
		}
	}()
	return ended
}

// settleSuccession gives up a hand-over that is under way, and lets none begin: this process ends.
func (h *house) settleSuccession() {
	h.succession.forbid()
	h.changing.Lock()
	h.changing.Unlock() // whoever held it has given up
}
