package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"gatepost/proxy/front"
)

// ErrNotRunning is wrapped when nobody answers on the socket.
var ErrNotRunning = errors.New("no gatepost is running")

// Call asks the gatepost that listens at path and decodes its answer into value, which may be nil.
func Call(ctx context.Context, path, call string, arguments, value any) error {
	final, err := exchange(ctx, path, call, arguments, nil)
	if err != nil || value == nil || len(final) == 0 {
		return err
	}
	if err := json.Unmarshal(final, value); err != nil {
		return fmt.Errorf("%s: the answer is not what this command understands: %w", call, err)
	}
	return nil
}

// Stream asks for many items and calls yield for each, until it returns false.
func Stream[T any](ctx context.Context, path, call string, arguments any, yield func(item T) bool) error {
	_, err := exchange(ctx, path, call, arguments, func(item json.RawMessage) error {
		var decoded T
		if err := json.Unmarshal(item, &decoded); err != nil {
			return fmt.Errorf("%s: the answer is not what this command understands: %w", call, err)
		}
		if !yield(decoded) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

var errEnough = errors.New("enough")

// exchange sends a request and reads the answer.
func exchange(ctx context.Context, path, call string, arguments any, item func(json.RawMessage) error) (json.RawMessage, error) {
	encoded, err := json.Marshal(arguments)
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(request{Call: call, Arguments: encoded})
	if err != nil {
		return nil, err
	}
	if len(line)+1 > maxRequest {
		return nil, fmt.Errorf("%s: the request has %d bytes, at most %d can be sent", call, len(line), maxRequest-1)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err != nil && front.IsNobody(err):
		return nil, fmt.Errorf("%w (socket %s does not answer)", ErrNotRunning, path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("socket %s: permission denied: run this command as root or as the user that gatepost runs as", path)
	case err != nil:
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	// The server may have refused without reading, and its reason is what counts: read it in any case.
	_, writeErr := conn.Write(append(line, '\n'))
	final, err := readAnswer(conn, item)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && writeErr != nil:
		return nil, fmt.Errorf("%s: %w, then %w", call, writeErr, err)
	}
	return final, err
}

func readAnswer(conn net.Conn, item func(json.RawMessage) error) (json.RawMessage, error) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(make([]byte, 0, 4096), maxResponse)
	for lines.Scan() {
		var r response
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("the answer is not JSON: %w", err)
		}
		switch {
		case r.Error != "":
			return nil, errors.New(r.Error)
		case r.End:
			return r.Value, nil
		case item == nil:
			return nil, errors.New("the answer is a stream; one value was expected")
		}
		if err := item(r.Item); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("gatepost broke the answer off: it may have been stopped")
}
