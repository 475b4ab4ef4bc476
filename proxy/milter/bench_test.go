package milter

import (
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
	"gatepost/rules"
)

// The benchmarks measure the processor time of both ends, and print as own-µs/op what is left of it without the caller's:
// the same dialogue with a peer that only counts frames.

// BenchmarkMessage is one message of 4 KiB with 20 fields through a UNIX socket, by an MTA that asks as Postfix does.
func BenchmarkMessage(b *testing.B) {
	text := []byte(strings.Repeat("X-Field-Of-A-Header: a value of some length, as they have\r\n", 20) + "\r\n" + strings.Repeat("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd\r\n", 44))
	message := func(c *talk) {
		c.envelope("a@example.org", "b@example.com")
		if a, _, err := c.message(text); err != nil || a.code != byte(milter.ActContinue) {
			b.Fatal(a, err)
		}
	}
	caller := callerAlone(b, message)
	h := start(b, setup{rules: []rules.Definition{rule("size", "message.size > 1000000", "reject"), rule("mail", `mail.domain == "bad.test"`, "reject")}})
	c := h.hello()
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	before := processorTime(b)
	for b.Loop() {
		message(c)
	}
	both := (processorTime(b) - before) / time.Duration(b.N)
	b.ReportMetric(float64(both.Nanoseconds())/1000, "cpu-µs/op")
	b.ReportMetric(float64((both-caller).Nanoseconds())/1000, "own-µs/op")
}

// callerAlone is the processor time of a dialogue with a peer that answers CONTINUE whatever comes.
func callerAlone(b *testing.B, dialogue func(c *talk)) time.Duration {
	ours, theirs, err := pair(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		defer ours.Close()
		r := wire.NewReader(ours)
		agreed := wire.Negotiation{Version: 6, Protocol: milter.OptNoHeaderReply | milter.OptNoEOHReply | milter.OptHeaderLeadingSpace}
		for {
			code, _, err := r.Next()
			switch {
			case err != nil:
				return
			case code == byte(milter.CodeOptNeg):
				ours.Write(agreed.AppendTo(nil))
			case strings.ContainsRune("CHMRTBE", rune(code)):
				ours.Write([]byte{0, 0, 0, 1, 'c'})
			}
		}
	})
	defer serving.Wait()
	caller, err := callOver(theirs, fullOffer)
	if err != nil {
		b.Fatal(err)
	}
	defer theirs.Close()
	c := &talk{caller, b}
	const times = 2000
	before := processorTime(b)
	for range times {
		dialogue(c)
	}
	return (processorTime(b) - before) / times
}

// pair is two ends of a UNIX socket.
func pair(folder string) (net.Conn, net.Conn, error) {
	l, err := net.Listen("unix", filepath.Join(folder, "s"))
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	theirs, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	ours, err := l.Accept()
	return ours, theirs, err
}

// BenchmarkSession is a whole session of an MTA's client, on a connection that is kept (QUIT_NC).
func BenchmarkSession(b *testing.B) {
	h := start(b, setup{})
	c := h.call(fullOffer)
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		c.want("c")(c.connect(stranger))
		c.want("c")(c.helo("client.test"))
		c.envelope("a@example.org", "b@example.com")
		if a, _, err := c.message([]byte("Subject: x\r\n\r\nx\r\n")); err != nil || a.code != byte(milter.ActContinue) {
			b.Fatal(a, err)
		}
		c.sent = wire.Append[string](c.sent, 'K')
	}
	b.ReportMetric(float64(processorTime(b)-before)/float64(b.N)/1000, "cpu-µs/op")
}

// processorTime is what this process has used of it.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	runtime.GC()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
