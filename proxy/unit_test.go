package proxy

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/proxy/wire"
)

// TestWheel compares the wheel with a plain table.
func TestWheel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		start := time.Now()
		w := wheel{start: start}
		now := start
		due := map[*session]time.Time{}
		pool := make([]*session, 20)
		for i := range pool {
			pool[i] = new(session)
		}
		for range rapid.IntRange(1, 200).Draw(r, "steps") {
			s := rapid.SampledFrom(pool).Draw(r, "session")
			switch rapid.IntRange(0, 2).Draw(r, "step") {
			case 0:
				if _, set := due[s]; !set {
					d := time.Duration(rapid.IntRange(0, 200_000).Draw(r, "ms")) * time.Millisecond
					w.set(s, now, d)
					due[s] = now.Add(d)
				}
			case 1:
				w.clear(s)
				delete(due, s)
			case 2:
				now = now.Add(time.Duration(rapid.IntRange(0, 100_000).Draw(r, "ms")) * time.Millisecond)
				for _, s := range w.expire(now, nil) {
					if due[s].IsZero() || now.Before(due[s]) {
						r.Fatalf("expired %s early", due[s].Sub(now))
					}
					delete(due, s)
				}
				for _, at := range due {
					if now.Sub(at) > 2*tick {
						r.Fatalf("%s late", now.Sub(at))
					}
				}
			}
		}
	})
}

func TestLimitsValidate(t *testing.T) {
	good := DefaultLimits()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Limits{LineLength: 511, Hops: 9}
	var errs filters.KeyErrors
	if err := bad.Validate(); !errors.As(err, &errs) || len(errs) < 14 {
		t.Fatalf("%v", err)
	}
	l := Listen{Address: "25", Key: "x"}
	if err := l.Validate(); !errors.As(err, &errs) || len(errs) != 2 {
		t.Fatalf("%v", err)
	}
	if l = DefaultListen()[0]; l.Validate() != nil {
		t.Fatal("the default is refused")
	}
}

func TestClientNetwork(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3::4": "2001:db8:1:2::/64"} {
		if got := clientNetwork(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}

func TestQueueID(t *testing.T) {
	for text, want := range map[string]string{
		"2.0.0 Ok: queued as 4F2A1B3C":                      "4F2A1B3C",
		"OK id=1rB2Cd-0001Ab-2X":                            "1rB2Cd-0001Ab-2X",
		"2.0.0 5AB1cdef Message accepted for delivery":      "5AB1cdef",
		"2.0.0: 9b1c Message accepted for delivery":         "",
		"2.6.0 <x@y> Queued mail for delivery":              "",
		"2.0.0 Ok: queued as " + strings.Repeat("A", 100):   strings.Repeat("A", 64),
		"2.0.0 Ok: queued as 3x and something else besides": "3x",
	} {
		if got := queueID(wire.Reply{Code: 250, Lines: []string{text}}); got != want && want != "" {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

func TestRecordKeepsTheReply(t *testing.T) {
	for _, r := range []wire.Reply{
		{Code: 250, Lines: []string{"2.0.0 Ok"}},
		{Code: 250, Lines: []string{"2.0.0 one", "2.0.0 two"}},
		{Code: 250, Lines: []string{"2.0.0 one", "two"}},
		{Code: 550, Lines: []string{"plain"}},
	} {
		k := record(r)
		if got := wire.NewReply(k.Code, k.Enhanced, k.Text); !slices.Equal(got.Lines, r.Lines) {
			t.Errorf("%q became %q", r.Lines, got.Lines)
		}
	}
}

func TestTraceName(t *testing.T) {
	got := traceName("a(b)\r\nX: y;\"<ä>")
	if strings.ContainsAny(got, "()\r\n;\"<> ") {
		t.Fatalf("%q", got)
	}
	if got := traceName("[IPv6:2001:db8::1]"); got != "[IPv6:2001:db8::1]" {
		t.Fatalf("%q", got)
	}
}

// FuzzXClient: whatever a peer claims, no control character and no blank gets through.
func FuzzXClient(f *testing.F) {
	for _, seed := range []string{"NAME=a ADDR=192.0.2.1 PORT=1 PROTO=ESMTP HELO=b", "ADDR=IPV6:2001:db8::1 LOGIN=x", "HELO=a+0D+0Ab",
		"NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE]", "=", "ADDR=fe80::1%eth0"} {
		f.Add(seed)
	}
	info := &filters.Session{Client: filters.ClientAt(netip.MustParseAddrPort("198.51.100.1:99"))}
	info.SetVerifiedName("before.test")
	f.Fuzz(func(t *testing.T, arg string) {
		c, err := parseXClient(arg, nil, info)
		if err != nil {
			return
		}
		if !c.addr.IsValid() || c.addr.Zone() != "" || c.addr.Is4In6() {
			t.Fatalf("address %v", c.addr)
		}
		for _, s := range []string{c.name, c.helo} {
			for i := range len(s) {
				if s[i] <= ' ' || s[i] == 0x7f {
					t.Fatalf("%q", s)
				}
			}
		}
	})
}

// FuzzProxyHeader: the length is never more than there is, does not depend on what follows, and the library agrees with
// it.
func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 198.51.100.1 1234 25\r\nEHLO x\r\n"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x04\xd2\x00\x19EHLO"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"))
	f.Fuzz(func(t *testing.T, input []byte) {
		n, err := proxyHeaderLength(input)
		if n > len(input) || n > maxProxyHeader {
			t.Fatalf("%d of %d bytes", n, len(input))
		}
		if err != nil || n == 0 {
			return
		}
		for k := range n {
			if early, err := proxyHeaderLength(input[:k]); early != 0 || err != nil {
				t.Fatalf("%d of %d bytes: %d, %v", k, n, early, err)
			}
		}
		header, err := proxyproto.Read(newHeaderReader(input[:n]))
		if err == nil && header.Command == proxyproto.PROXY && header.TransportProtocol.IsStream() {
			addrPort(header.SourceAddr)
		}
	})
}

// FuzzDialogue: no input makes the proxy panic, hang, or fall silent.
func FuzzDialogue(f *testing.F) {
	f.Add([]byte(wholeDialogue))
	f.Add([]byte("EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 5\r\nabcdeBDAT 0 LAST\r\nSTARTTLS\r\n\x16\x03\x01"))
	f.Add([]byte("EHLO x\r\nXCLIENT ADDR=192.0.2.1\r\nHELO y\r\nVRFY z\r\nMAIL FROM:<>\r\nRSET\r\nBDAT 99999999999999999999\r\n"))
	h := start(f, setup{listen: Listen{Certificate: certificate(f), XClientFrom: prefixes("127.0.0.1/32")}})
	f.Fuzz(func(t *testing.T, input []byte) {
		c := h.dialFor(t)
		defer c.Close()
		c.expect("220 ")
		go func() {
			c.Write(input)
			c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		}()
		for {
			reply := c.reply()
			if strings.HasPrefix(reply, "EOF") {
				if strings.Contains(reply, "timeout") {
					t.Fatalf("the proxy fell silent after %q", input)
				}
				return
			}
			if bytes.ContainsAny([]byte(reply), "\x00\r") {
				t.Fatalf("reply %q", reply)
			}
		}
	})
}

// TestEndings: whoever reads a journal can tell them apart.
func TestEndings(t *testing.T) {
	seen := make(map[string]ending)
	for e := range ending(len(endings)) {
		if other, taken := seen[e.String()]; taken {
			t.Errorf("endings %d and %d are both called %q", other, e, e)
		}
		seen[e.String()] = e
	}
}
