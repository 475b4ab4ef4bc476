package milter

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
)

// flooding is an MTA that sends frames without end, each piece of which ends in the middle of one, and counts what it is
// answered meanwhile.
type flooding struct {
	net.Conn
	rest           []byte // of the stream so far
	frame          []byte // what follows again and again
	sent, most     int    // bytes, since it was answered last
	limit, answers int
}

func (f *flooding) Read(p []byte) (int, error) {
	if f.limit <= 0 {
		return 0, io.EOF
	}
	for len(f.rest) < len(p) {
		f.rest = append(f.rest, f.frame...)
	}
	n := len(p)
	if (len(f.rest)-n)%len(f.frame) == 0 {
		n--
	}
	copy(p, f.rest[:n])
	f.rest = append(f.rest[:0], f.rest[n:]...)
	f.sent += n
	f.limit -= n
	f.most = max(f.most, f.sent)
	return n, nil
}

func (f *flooding) Write(p []byte) (int, error) {
	f.answers, f.sent = f.answers+1, 0
	return len(p), nil
}

func (f *flooding) RemoteAddr() net.Addr             { return &net.UnixAddr{Net: "unix"} }
func (f *flooding) SetReadDeadline(time.Time) error  { return nil }
func (f *flooding) SetWriteDeadline(time.Time) error { return nil }
func (f *flooding) Close() error                     { return nil }

// TestAnswersDoNotPileUp: an MTA that does not wait for answers is not given room for all of them.
func TestAnswersDoNotPileUp(t *testing.T) {
	h := start(t, setup{})
	offer := wire.Negotiation{Version: 6, Actions: 0x1ff}
	f := &flooding{rest: offer.AppendTo(nil), frame: wire.AppendTexts(nil, byte(wire.CodeUnknown), "XY"), limit: 8 << 20}
	f.rest = append(f.rest, wire.Append[string](nil, byte(milter.CodeAbort))...)
	h.server.Hold(&Listen{}, f)
	if f.answers == 0 || f.most > 64<<10 {
		t.Errorf("%d bytes came, and none of the answers went out; %d writes in all", f.most, f.answers)
	}
}
