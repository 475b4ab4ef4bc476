package milter

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/called"
	"gatepost/proxy/front"
	"gatepost/rules"
)

// FuzzFrames: whatever an MTA sends, the server answers or hangs up, panics nowhere, and gives back all that it took. The
// stream comes behind a negotiation; what is in the message was bounded before.
func FuzzFrames(f *testing.F) {
	spill, err := front.NewSpill(f.TempDir(), 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	limits := proxy.DefaultLimits()
	limits.MessageSize, limits.MessageMemory, limits.Memory = 64<<10, 8<<10, 16<<10
	engine := compile(f, setup{specs: []filters.Spec{reporterSpec()}, rules: []rules.Definition{
		rule("size", `message.size > 100 and header("Subject") == "x"`, "reject"),
		rule("tag", `mail.local == "a"`, "tag", "header", "X-A: {mail.address}"),
		rule("rcpt", `rcpt.local == "no"`, "reject", "reply", "550 5.7.1 {rcpt.address} {helo.name}"),
	}})
	server, err := New(Options{Spill: spill, Log: slog.New(slog.DiscardHandler), Clock: filters.SystemClock{},
		Service: called.Service{Hostname: "mx.test", Engine: engine, Runtime: &policy.Runtime{}, Limits: limits}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Shutdown(context.Background()) })
	entry := &Listen{Submission: []string{"MSA"}}

	session := stranger.AppendTo(wire.AppendMacros(nil, milter.CodeConn, "v", "Postfix", "{client_addr}", "192.0.2.1"))
	session = wire.AppendTexts(session, 'H', "client.test")
	session = wire.AppendTexts(wire.AppendMacros(session, milter.CodeMail, "i", "4X", "{auth_authen}", "joe"), 'M', "<a@example.org>", "SIZE=10")
	session = wire.AppendTexts(session, 'R', "<no@example.com>")
	session = wire.Append[string](wire.AppendTexts(session, 'R', "<b@example.com>"), 'T')
	session = wire.Append(wire.AppendTexts(session, 'L', "Authentication-Results", " mx.test; none"), 'N', "")
	session = wire.Append(session, 'B', "body\r\n")
	f.Add(uint32(0x1fffff), wire.Append(session, 'E', ""))
	f.Add(uint32(0), wire.Append(wire.Append(session, 'A', ""), 'Q', ""))
	f.Add(uint32(0x400), wire.Append(wire.Append(wire.Append(session, 'E', "rest"), 'K', ""), 'U', "x\x00"))
	f.Fuzz(func(t *testing.T, protocol uint32, stream []byte) {
		offer := wire.Negotiation{Version: 6, Actions: 0x1ff, Protocol: milter.OptProtocol(protocol)}
		ours, theirs := net.Pipe()
		ours.SetDeadline(time.Now().Add(10 * time.Second))
		var running sync.WaitGroup
		running.Go(func() { io.Copy(io.Discard, ours) })
		running.Go(func() { server.Hold(entry, theirs) })
		ours.Write(offer.AppendTo(nil))
		ours.Write(stream)
		ours.Close()
		running.Wait()
		m := server.Metrics()
		if m.Panics.Load() != 0 || m.Open.Load() != 0 || server.memory.Used() != 0 || spill.Used() != 0 {
			t.Fatalf("%d panics, %d open, %d bytes of memory, %d of files", m.Panics.Load(), m.Open.Load(), server.memory.Used(), spill.Used())
		}
	})
}
