package milter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

const (
	version = 6
	// offered are all things that a milter may want to do. What it must not do is refused when it comes: libmilter refuses
	// to work at all with an MTA that does not offer what it was registered for.
	offered = milter.OptAddHeader | milter.OptChangeBody | milter.OptAddRcpt | milter.OptRemoveRcpt | milter.OptChangeHeader |
		milter.OptQuarantine | milter.OptChangeFrom | milter.OptAddRcptWithArgs | milter.OptSetSymList
	// protocol is all of version 6 but larger chunks of the body, as Postfix and sendmail offer it: 0x1fffff.
	protocol = milter.OptProtocol(1<<21 - 1)

	// maxChunk is what all versions of the protocol take for a piece of the body.
	maxChunk = 65535
	// maxHeard and maxFrames bound what a milter may say of one message.
	maxHeard  = 64 << 20
	maxFrames = 100_000
	// handOnTime bounds the first word of a milter to another client.
	handOnTime = 5 * time.Second
	// quitTime bounds the last word to a milter.
	quitTime = 100 * time.Millisecond
)

// link is a connection to a milter. It is one goroutine's at a time.
type link struct {
	nc      net.Conn
	frames  *wire.Reader
	out     []byte // what is to be written
	agreed  wire.Negotiation
	silence time.Duration

	session  *filters.Session  // whom it was told of; nil: nobody
	greeting *filters.Greeting // what it was told of the client's
	handedOn bool              // it was told of a client who has left, and is to hear of another one
	used     time.Time

	heard int // bytes of frames of the present message
	count int // frames of the present message
}

// dial connects and negotiates.
func (f *Filter) dial(ctx context.Context) (*link, error) {
	silence := time.Duration(f.config.Silence)
	limited, cancel := context.WithTimeout(ctx, silence)
	defer cancel()
	nc, err := f.env.Dialer.Dial(limited, f.config.Address.Network, f.config.Address.Address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &fault{err}
	}
	l := &link{nc: nc, frames: wire.NewReader(nc), silence: silence}
	stop := l.giveUpWith(ctx)
	err = l.negotiate(ctx)
	if stop(); err != nil {
		nc.Close()
		return nil, err
	}
	return l, nil
}

// giveUpWith ends waits when ctx ends, until stop is called.
func (l *link) giveUpWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { l.nc.SetDeadline(time.Unix(1, 0)) })
}

func (l *link) negotiate(ctx context.Context) error {
	offer := wire.Negotiation{Version: version, Actions: offered, Protocol: protocol}
	l.out = offer.AppendTo(l.out[:0])
	if err := l.write(ctx); err != nil {
		return err
	}
	code, data, err := l.next(ctx)
	if err != nil {
		return err
	}
	if code != byte(milter.CodeOptNeg) {
		return &fault{fmt.Errorf("the milter answers the negotiation by %q", code)}
	}
	l.agreed, err = wire.ParseNegotiation(data)
	switch {
	case err != nil:
		return &fault{err}
	case l.agreed.Version < 2 || l.agreed.Version > version:
		return &fault{fmt.Errorf("the milter speaks version %d of the protocol, and not one of 2 to %d", l.agreed.Version, version)}
	case l.agreed.Actions&^offered != 0:
		return &fault{fmt.Errorf("the milter wants to do what was not offered: %#x", uint32(l.agreed.Actions))}
	case l.agreed.Protocol&^protocol != 0:
		return &fault{fmt.Errorf("the milter wants a protocol that was not offered: %#x", uint32(l.agreed.Protocol))}
	}
	return nil
}

func (l *link) agrees(bit milter.OptProtocol) bool { return l.agreed.Protocol&bit != 0 }

// write sends what is in out.
func (l *link) write(ctx context.Context) error {
	l.nc.SetWriteDeadline(time.Now().Add(l.silence))
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := l.nc.Write(l.out)
	l.out = l.out[:0]
	return l.theirs(ctx, err)
}

// next reads a frame, for which it waits as long as the milter may say nothing. The data are valid until the next one.
func (l *link) next(ctx context.Context) (code byte, data []byte, err error) {
	l.nc.SetReadDeadline(time.Now().Add(l.patience()))
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	code, size, err := l.frames.Next()
	if err != nil {
		return 0, nil, l.theirs(ctx, err)
	}
	l.heard += size
	if l.count++; l.heard > maxHeard || l.count > maxFrames {
		return 0, nil, &fault{errors.New("the milter says too much")}
	}
	data, err = l.frames.Data()
	return code, data, l.theirs(ctx, err)
}

// patience is shorter where a milter may not go on at all behind SMFIC_QUIT_NC, and should say something at once if it does.
func (l *link) patience() time.Duration {
	if l.handedOn && l.count == 0 && !l.agrees(milter.OptNoConnect|milter.OptNoConnReply) {
		return min(l.silence, handOnTime)
	}
	return l.silence
}

// theirs makes an error of the connection the milter's fault, unless nobody waits for it any more.
func (l *link) theirs(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &fault{err}
}

// knows tells whether the milter was told of this client already, and nothing has changed since.
func (l *link) knows(s *filters.Session, g *filters.Greeting) bool {
	return l.session == s && l.greeting == g
}

// quit says good-bye and closes.
func (l *link) quit() {
	l.nc.SetDeadline(time.Now().Add(quitTime))
	l.nc.Write(wire.Append[string](nil, byte(milter.CodeQuit)))
	l.nc.Close()
}
