package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"gatepost/proxy/wire"
)

// Error says which backend failed, at what, and what can be done about it. Its text is fit for a log line.
type Error struct {
	// Address of the backend as configured.
	Address string
	// Step is what it failed at: "connect", "greeting", a verb, or "message".
	Step string
	// Reply is what the backend answered; its Code is 0 if it did not answer.
	Reply wire.Reply
	// Refused tells that the backend itself is in order and Reply is its word on this client: it was spoken to the
	// greeting or EHLO after the client's address was handed over. The client may be told so.
	Refused bool
	// Advice tells an operator what to look at, or is empty.
	Advice string
	// Err is the cause, or nil when Reply is.
	Err error
}

var (
	errReleased   = errors.New("the connection was given back")
	errNoCommand  = errors.New("no command waits for a reply")
	errUnread     = errors.New("replies to earlier commands were not read")
	errUnasked    = errors.New("it spoke without being asked")
	errClosing    = errors.New("the connection cannot be used any more")
	errTooShort   = errors.New("the message is shorter than announced")
	errTooLong    = errors.New("the message is longer than announced")
	errNeedsBDAT  = errors.New("BODY=BINARYMIME cannot be sent with DATA")
	errFamily     = errors.New("it has no address of the client's family")
	errEarlyReply = errors.New("it answered before the end of the message")
)

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("backend ")
	b.WriteString(e.Address)
	b.WriteString(": ")
	b.WriteString(e.Step)
	if e.Reply.Code != 0 {
		fmt.Fprintf(&b, ": it answered %q", shorten(e.Reply))
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(strings.ReplaceAll(e.Err.Error(), "\n", ": "))
	}
	if e.Advice != "" {
		b.WriteString("; ")
		b.WriteString(e.Advice)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// shorten puts a reply into one line of bounded length.
func shorten(r wire.Reply) string {
	text := fmt.Sprintf("%03d %s", r.Code, strings.Join(r.Lines, " / "))
	if len(text) > 300 {
		text = text[:300] + "…"
	}
	return text
}

// ioError gives a network error a cause that can be read.
func ioError(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("no answer in time: %w", context.Cause(ctx))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("no answer in time: %w", err)
	}
	return err
}
