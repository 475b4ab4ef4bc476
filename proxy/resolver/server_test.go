package resolver

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"gatepost/filters"
	"gatepost/filters/filtertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeServer is a DNS server on loopback that answers with what handle makes of a query; nil is silence.
type fakeServer struct {
	address string
	mu      sync.Mutex // guards asked
	asked   map[string]int
}

func (s *fakeServer) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

func serve(t testing.TB, handle func(network string, q *dns.Msg) *dns.Msg) *fakeServer {
	t.Helper()
	tcp, udp := listen(t)
	s := &fakeServer{address: udp.LocalAddr().String(), asked: map[string]int{}}
	mux := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		network := w.LocalAddr().Network()
		s.mu.Lock()
		s.asked[network]++
		s.asked["all"]++
		s.mu.Unlock()
		if reply := handle(network, q); reply != nil {
			w.WriteMsg(reply)
		}
	})
	var running sync.WaitGroup
	t.Cleanup(running.Wait) // after both Shutdowns: the last cleanup runs first
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: mux}, {Listener: tcp, Handler: mux}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		running.Go(func() { server.ActivateAndServe() })
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	return s
}

// listen finds a port that is free for TCP and UDP.
func listen(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp
		}
		tcp.Close()
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}

func listenUDP(t *testing.T) net.PacketConn {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return udp
}

// records answers every query of a name with these records, NXDOMAIN for other names.
func records(lines ...string) func(string, *dns.Msg) *dns.Msg {
	var all []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		all = append(all, rr)
	}
	return func(_ string, q *dns.Msg) *dns.Msg {
		reply := new(dns.Msg).SetReply(q)
		reply.Rcode = dns.RcodeNameError
		for _, rr := range all {
			switch h := rr.Header(); {
			case h.Rrtype == dns.TypeSOA:
				reply.Ns = append(reply.Ns, rr)
			case h.Name == q.Question[0].Name:
				reply.Rcode = dns.RcodeSuccess
				if h.Rrtype == q.Question[0].Qtype || h.Rrtype == dns.TypeCNAME {
					reply.Answer = append(reply.Answer, rr)
				}
			}
		}
		return reply
	}
}

// newResolver is patient: on a busy machine even loopback takes its time.
func newResolver(t testing.TB, clock filters.Clock, servers ...string) *Resolver {
	t.Helper()
	return withAttempt(t, clock, 2*time.Second, servers...)
}

// withAttempt is for tests in which a server is silent.
func withAttempt(t testing.TB, clock filters.Clock, attempt time.Duration, servers ...string) *Resolver {
	t.Helper()
	c := Defaults()
	c.Servers = servers
	c.Attempt = filters.Duration(attempt)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := New(c, clock, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func clock() *filtertest.Clock { return filtertest.NewClock() }

func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, s := range texts {
		all = append(all, netip.MustParseAddr(s))
	}
	return all
}
