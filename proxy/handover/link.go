package handover

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// writeTimeout is for one frame: the other end always reads.
	writeTimeout = 10 * time.Second
	// maxCalls bounds the calls of the other end that are being answered. More wait on the link.
	maxCalls = 1024
	// maxItems bounds the bytes of the answers to one call.
	maxItems = 256 << 20
)

// Handler answers a call. send adds to what Stream yields to the caller; the value, nil for none, is what Call returns.
type Handler func(ctx context.Context, body []byte, send func(item any) error) (value any, err error)

// Link is one end of the connection between two processes. It is safe for concurrent use; handlers are registered before
// Run.
type Link struct {
	conn     net.Conn
	log      *slog.Logger
	handlers map[string]Handler
	notices  map[string]func(body []byte)
	done     chan struct{} // closed when the link has ended

	writing sync.Mutex // one frame at a time

	mu      sync.Mutex // guards all below
	number  uint64
	waiting map[uint64]*pending           // calls of ours
	serving map[uint64]context.CancelFunc // calls of the other end
	ended   bool
}

// pending is a call that is not answered yet.
type pending struct {
	items  [][]byte
	size   int
	last   frame
	result chan struct{} // closed when last is set, or the link has ended
}

// ErrLinkEnded is wrapped when the other process has gone away.
var ErrLinkEnded = errors.New("the other gatepost is gone")

// NewLink makes an end of a link; nothing is read before Run.
func NewLink(conn net.Conn, log *slog.Logger) *Link {
	return &Link{conn: conn, log: log, handlers: map[string]Handler{}, notices: map[string]func([]byte){}, done: make(chan struct{}),
		waiting: map[uint64]*pending{}, serving: map[uint64]context.CancelFunc{}}
}

// Handle registers a call. Its handlers run beside each other.
func (l *Link) Handle(name string, h Handler) { l.handlers[name] = h }

// HandleNotice registers a notice. Its handlers run one after the other, in order of all notices, and must not wait.
func (l *Link) HandleNotice(name string, h func(body []byte)) { l.notices[name] = h }

// Done is closed when the other process has gone away, or Close was called.
func (l *Link) Done() <-chan struct{} { return l.done }

// Close ends the link.
func (l *Link) Close() { l.conn.Close() }

// Run reads until the link ends, and waits for what is being answered. The error is nil where the other process has gone
// away.
func (l *Link) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var answering sync.WaitGroup
	defer answering.Wait()
	defer l.end()
	slots := make(chan struct{}, maxCalls)
	r := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			stop()
			if _, gone := errors.AsType[net.Error](err); gone || errors.Is(err, net.ErrClosed) || isEnd(err) {
				return nil
			}
			return fmt.Errorf("link: %w", err)
		}
		switch f.kind {
		case call:
			slots <- struct{}{}
			bounded, cancelled := context.WithCancel(ctx)
			l.mu.Lock()
			l.serving[f.number] = cancelled
			l.mu.Unlock()
			answering.Go(func() {
				defer func() { <-slots }()
				l.answer(bounded, f)
				cancelled()
			})
		case cancel:
			l.mu.Lock()
			cancelled := l.serving[f.number]
			l.mu.Unlock()
			if cancelled != nil {
				cancelled()
			}
		case notice:
			if h := l.notices[f.name]; h != nil {
				l.guard(f.name, func() { h(f.body) })
			}
		default:
			l.answered(f)
		}
	}
}

// end tells everybody who waits.
func (l *Link) end() {
	l.conn.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for number, p := range l.waiting {
		p.last = frame{kind: failure, body: []byte(ErrLinkEnded.Error())}
		close(p.result)
		delete(l.waiting, number)
	}
	close(l.done)
}

func (l *Link) guard(name string, f func()) {
	defer func() {
		if r := recover(); r != nil {
			l.log.Error("link: a handler panicked", "call", name, "panic", r, "stack", string(debug.Stack()))
		}
	}()
	f()
}

// answer calls the handler; its panic is its error.
func (l *Link) answer(ctx context.Context, f frame) {
	last := frame{number: f.number, kind: failure, body: []byte(f.name + ": internal error")}
	defer func() {
		l.mu.Lock()
		delete(l.serving, f.number)
		l.mu.Unlock()
		l.write(&last)
	}()
	h, known := l.handlers[f.name]
	if !known {
		last.body = fmt.Appendf(nil, "the other gatepost does not know %q: it is of another release", f.name)
		return
	}
	l.guard(f.name, func() {
		value, err := h(ctx, f.body, func(one any) error {
			body, err := encode(one)
			if err != nil {
				return err
			}
			return l.write(&frame{number: f.number, kind: item, body: body})
		})
		var body []byte
		if err == nil {
			body, err = encode(value)
		}
		if err == nil && len(body) > maxFrame/2 {
			err = fmt.Errorf("%s: an answer of %d bytes is too long", f.name, len(body))
		}
		last.kind, last.body = answer, body
		if err != nil {
			last.kind, last.body = failure, []byte(err.Error())
		}
	})
}

// answered hands an answer to who waits for it.
func (l *Link) answered(f frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.waiting[f.number]
	if p == nil {
		return // who asked did not wait
	}
	if f.kind == item {
		if p.size += len(f.body); p.size <= maxItems {
			p.items = append(p.items, f.body)
			return
		}
		f = frame{kind: failure, body: []byte("the answer is too long")}
	}
	p.last = f
	delete(l.waiting, f.number)
	close(p.result)
}

func (l *Link) write(f *frame) error {
	b, err := f.append(nil)
	if err != nil {
		return err
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	_ = l.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := l.conn.Write(b); err != nil {
		l.conn.Close() // half a frame may be out
		return fmt.Errorf("%w: %w", ErrLinkEnded, err)
	}
	return nil
}

// remoteError is what a handler of the other end has returned.
type remoteError struct{ text string }

func (e remoteError) Error() string { return e.text }

// Is makes errors.Is find those that were known by their text.
func (e remoteError) Is(target error) bool { return e.text == target.Error() }

// Call asks the other end and decodes its answer into value, which may be nil.
func (l *Link) Call(ctx context.Context, name string, arguments, value any) error {
	p, err := l.exchange(ctx, name, arguments)
	if err != nil || value == nil {
		return err
	}
	if err := Decode(p.last.body, value); err != nil {
		return fmt.Errorf("%s: the answer is not what this release understands: %w", name, err)
	}
	return nil
}

// Stream asks for many items and calls yield for each, until it returns false, when all have come.
func Stream[T any](ctx context.Context, l *Link, name string, arguments any, yield func(T) bool) error {
	p, err := l.exchange(ctx, name, arguments)
	if err != nil {
		return err
	}
	for _, body := range p.items {
		var one T
		if err := Decode(body, &one); err != nil {
			return fmt.Errorf("%s: the answer is not what this release understands: %w", name, err)
		}
		if !yield(one) {
			return nil
		}
	}
	return nil
}

func (l *Link) exchange(ctx context.Context, name string, arguments any) (*pending, error) {
	body, err := encode(arguments)
	if err != nil {
		return nil, err
	}
	p := &pending{result: make(chan struct{})}
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return nil, ErrLinkEnded
	}
	l.number++
	number := l.number
	l.waiting[number] = p
	l.mu.Unlock()
	if err := l.write(&frame{number: number, kind: call, name: name, body: body}); err != nil {
		l.forget(number)
		return nil, err
	}
	select {
	case <-p.result:
	case <-ctx.Done():
		if l.forget(number) {
			_ = l.write(&frame{number: number, kind: cancel})
			return nil, ctx.Err()
		}
		<-p.result
	}
	if p.last.kind == failure {
		return nil, remoteError{string(p.last.body)}
	}
	return p, nil
}

// forget takes back a call; false: it has been answered.
func (l *Link) forget(number uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, waits := l.waiting[number]
	delete(l.waiting, number)
	return waits
}

// Notify tells the other end something that it does not answer.
func (l *Link) Notify(name string, value any) error {
	body, err := encode(value)
	if err != nil {
		return err
	}
	return l.write(&frame{kind: notice, name: name, body: body})
}
