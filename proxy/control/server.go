package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"gatepost/proxy/front"
	"gatepost/proxy/sockets"
)

// Handler answers a call. The value is encoded as JSON. ctx ends when the client goes away or the server stops.
type Handler func(ctx context.Context, arguments json.RawMessage) (value any, err error)

// StreamHandler answers a call with any number of items. send returns an error when the client is gone: stop then.
type StreamHandler func(ctx context.Context, arguments json.RawMessage, send func(item any) error) error

// Server answers commands on a UNIX socket. Register handlers before Serve.
type Server struct {
	log      *slog.Logger
	handlers map[string]handler
	listener *net.UnixListener
	slots    chan struct{}
	stopped  atomic.Bool // StopAccepting was called
}

// Listen makes the socket at path, for this user and root only, unless it was given to the process. A socket that a dead
// process left is replaced. The folder must exist. The error wraps [front.ErrOwned] when another process answers there.
func Listen(path string, given *sockets.Set, log *slog.Logger) (*Server, error) {
	want := sockets.Want{Use: sockets.Control, Name: path, Network: "unix", Address: path}
	if !given.Gives(want) {
		if err := front.RemoveStale(path); err != nil {
			return nil, fmt.Errorf("control socket %s: %w", path, err)
		}
	}
	socket, inherited, err := given.Listen(context.Background(), want)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	listener, ok := socket.(*net.UnixListener)
	if !ok {
		socket.Close()
		return nil, fmt.Errorf("control socket %s: what was given is no UNIX socket", path)
	}
	s := &Server{log: log, handlers: map[string]handler{}, listener: listener, slots: make(chan struct{}, maxClients)}
	if inherited {
		return s, nil
	}
	// Between the two steps the file's mode is the umask's; who connects in that moment still meets identify.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return s, nil
}

// Handle registers a call that is answered with one value.
func (s *Server) Handle(call string, h Handler) {
	s.register(call, func(ctx context.Context, arguments json.RawMessage, _ func(any) error) (any, error) {
		return h(ctx, arguments)
	})
}

// HandleStream registers a call that is answered with many items.
func (s *Server) HandleStream(call string, h StreamHandler) {
	s.register(call, func(ctx context.Context, arguments json.RawMessage, send func(any) error) (any, error) {
		return nil, h(ctx, arguments, send)
	})
}

// handler is what both kinds become.
type handler func(ctx context.Context, arguments json.RawMessage, send func(item any) error) (value any, err error)

func (s *Server) register(call string, h handler) {
	if _, twice := s.handlers[call]; twice {
		panic("control: two handlers for " + call)
	}
	s.handlers[call] = h
}

// StopAccepting closes the socket: Serve answers what has come, and ends.
func (s *Server) StopAccepting() {
	s.stopped.Store(true)
	_ = s.listener.Close()
}

// Serve answers until ctx ends, removes the socket and waits for what is being answered.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.listener.Close() })
	defer stop()
	defer s.listener.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				if s.stopped.Load() {
					return nil
				}
				return err
			}
			s.log.Error("control: accept", "error", err)
			select { // out of descriptors: it passes
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			refuse(conn, fmt.Errorf("%d commands are being answered already; try again later", maxClients))
			continue
		}
		serving.Go(func() {
			defer func() { <-s.slots }()
			s.serve(ctx, conn)
		})
	}
}

func refuse(conn *net.UnixConn, err error) {
	_ = writeLine(conn, response{End: true, Error: err.Error()})
	_ = conn.Close()
}

// serve answers one connection.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	closed := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer closed()
	defer conn.Close()
	userID, err := identify(conn)
	if err != nil {
		s.log.Warn("control: a stranger was refused", "error", err)
		refuse(conn, err)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(requestTimeout))
	if ctx.Err() != nil {
		return
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxRequest))
	line, err := reader.ReadBytes('\n')
	if err != nil {
		if len(line) > 0 {
			refuse(conn, errors.New("a request is one line of JSON, of at most 1 MiB"))
		}
		return
	}
	var req request
	if err := json.Unmarshal(line, &req); err != nil {
		refuse(conn, fmt.Errorf("the request is not what this gatepost understands: %w", err))
		return
	}
	// Nothing more may come: the read ends when the client goes away.
	_ = conn.SetReadDeadline(time.Time{})
	if ctx.Err() != nil {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = conn.Read(make([]byte, 1))
		cancel()
	}()
	s.answer(context.WithValue(ctx, callerKey{}, userID), conn, req)
	cancel()
	<-gone
}

// answer calls the handler and writes what it returns.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn, req request) {
	value, err := s.call(ctx, req, func(item any) error {
		encoded, err := encode(item)
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return writeLine(conn, response{Item: encoded})
	})
	last := response{End: true}
	if err == nil && value != nil {
		last.Value, err = encode(value)
	}
	if err != nil {
		last = response{End: true, Error: err.Error()}
	}
	if err := writeLine(conn, last); err != nil {
		s.log.Debug("control: the client did not wait for the answer", "call", req.Call, "error", err)
	}
}

// call runs the handler; its panic is its error.
func (s *Server) call(ctx context.Context, req request, send func(any) error) (value any, err error) {
	h, known := s.handlers[req.Call]
	if !known {
		return nil, fmt.Errorf("the running gatepost does not know %q: it may be of another version", req.Call)
	}
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("control: a handler panicked", "call", req.Call, "panic", r, "stack", string(debug.Stack()))
			err = fmt.Errorf("%s: internal error: %v", req.Call, r)
		}
	}()
	return h(ctx, req.Arguments, send)
}

func encode(value any) (json.RawMessage, error) {
	encoded, err := json.Marshal(value)
	if err == nil && len(encoded) > maxResponse/2 {
		return nil, fmt.Errorf("an answer of %d bytes is too long", len(encoded))
	}
	return encoded, err
}

func writeLine(conn *net.UnixConn, r response) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err = conn.Write(append(line, '\n'))
	return err
}
