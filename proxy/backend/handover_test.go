package backend

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"
	"pgregory.net/rapid"

	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/wire"
)

func TestHandOverReachesTheBackend(t *testing.T) {
	mapped := netip.AddrPortFrom(netip.AddrFrom16(client4.Addr().As16()), client4.Port())
	for _, test := range []struct {
		name          string
		address       ClientAddress
		proxy         backendtest.ProxyHeader
		client, local netip.AddrPort
		want          netip.AddrPort
	}{
		{"xclient", XClient, 0, client4, local4, client4},
		{"xclient IPv6", XClient, 0, client6, local6, client6},
		{"xclient IPv4-mapped", XClient, 0, mapped, local4, client4},
		{"proxy-v1", ProxyV1, backendtest.ProxyV1, client4, local4, client4},
		{"proxy-v1 IPv6", ProxyV1, backendtest.ProxyV1, client6, local6, client6},
		{"proxy-v1 IPv6 client at an IPv4 address", ProxyV1, backendtest.ProxyV1, client6, local4, client6},
		{"proxy-v1 IPv4 client at an IPv6 address", ProxyV1, backendtest.ProxyV1, client4, local6, client4},
		{"proxy-v1 no local address", ProxyV1, backendtest.ProxyV1, client4, netip.AddrPort{}, client4},
		{"proxy-v2", ProxyV2, backendtest.ProxyV2, client4, local4, client4},
		{"proxy-v2 IPv4-mapped", ProxyV2, backendtest.ProxyV2, mapped, local4, client4},
		{"proxy-v2 IPv6", ProxyV2, backendtest.ProxyV2, client6, local6, client6},
		{"proxy-v2 no local address", ProxyV2, backendtest.ProxyV2, client6, netip.AddrPort{}, client6},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, backendtest.Behaviour{Proxy: test.proxy})
			g, _ := newGroup(t, func(c *Config) { c.ClientAddress = test.address }, s)
			c := testClient()
			c.Addr, c.Local = test.client, test.local
			transact(t, dial(t, g, c), message("Subject: x\r\n\r\nx\r\n"))
			m := onlyMessage(t, s)
			if m.Client != test.want || m.Helo != "helo.example.org" || !m.Extended {
				t.Errorf("backend saw %v %q extended %v, want %v", m.Client, m.Helo, m.Extended, test.want)
			}
			if test.address == XClient && m.ClientName != "client.example.org" {
				t.Errorf("backend saw name %q", m.ClientName)
			}
		})
	}
}

func TestWithoutHandOverTheBackendSeesUs(t *testing.T) {
	s := start(t, backendtest.Behaviour{XClient: backendtest.XClientNever})
	g, _ := newGroup(t, func(c *Config) { c.ClientAddress = NoAddress }, s)
	transact(t, dial(t, g, testClient()), message("x\r\n"))
	if m := onlyMessage(t, s); m.Helo != "mx.example.org" || !m.Client.Addr().IsLoopback() {
		t.Errorf("backend saw %v %q", m.Client, m.Helo)
	}
}

func TestClientThatSaidHelo(t *testing.T) {
	s := start(t, backendtest.Behaviour{})
	g, _ := newGroup(t, nil, s)
	for range 2 { // unknown and known backend
		c := testClient()
		c.Extended = false
		conn := dial(t, g, c)
		transact(t, conn, message("x\r\n"))
		conn.Release()
	}
	for _, m := range s.Messages() {
		if m.Extended || m.Helo != "helo.example.org" || m.BDAT {
			t.Errorf("backend saw extended %v %q BDAT %v", m.Extended, m.Helo, m.BDAT)
		}
	}
	if text := transcript(s); strings.Count(text, "PROTO=SMTP") != 2 {
		t.Errorf("PROTO=SMTP is missing:\n%s", text)
	}
}

func TestUnixSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "smtp"))
	if err != nil {
		t.Fatal(err)
	}
	s := backendtest.Serve(l, backendtest.Behaviour{})
	t.Cleanup(s.Close)
	g, _ := newGroup(t, nil, s)
	transact(t, dial(t, g, testClient()), message("x\r\n"))
	if m := onlyMessage(t, s); m.Client != client4 {
		t.Errorf("backend saw %v", m.Client)
	}
}

// A backend that does not take the address is out of order: no message, no fall-back, a text that helps.
func TestRefusedHandOver(t *testing.T) {
	for _, test := range []struct {
		name    string
		address ClientAddress
		b       backendtest.Behaviour
		says    []string
	}{
		{"XCLIENT is not offered", XClient, backendtest.Behaviour{XClient: backendtest.XClientNever}, []string{"not offered", "smtpd_authorized_xclient_hosts"}},
		{"XCLIENT is refused", XClient, backendtest.Behaviour{Answer: func(_ *backendtest.Session, line string) string {
			if strings.HasPrefix(line, "XCLIENT") {
				return "550 5.7.0 Error: insufficient authorization"
			}
			return ""
		}}, []string{`"550 5.7.0 Error: insufficient authorization"`, "XCLIENT", "smtpd_authorized_xclient_hosts"}},
		{"PROXY v1 is taken for a command", ProxyV1, backendtest.Behaviour{}, []string{"502 5.5.2", "smtpd_upstream_proxy_protocol"}},
		{"PROXY v2 is taken for commands", ProxyV2, backendtest.Behaviour{Lenient: true}, []string{"502 5.5.2", "smtpd_upstream_proxy_protocol"}},
		{"v1 for v2", ProxyV1, backendtest.Behaviour{Proxy: backendtest.ProxyV2}, []string{"421 4.3.0", "hosts_proxy"}},
		{"no PROXY", ProxyV1, backendtest.Behaviour{Greeting: backendtest.Hangup}, []string{"greeting", "hosts_proxy"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, test.b)
			g, logs := newGroup(t, func(c *Config) { c.ClientAddress = test.address }, s)
			_, err := g.Dial(testContext(t), testClient())
			if e := wantError(t, err, append(test.says, s.Address())...); e.Refused {
				t.Error("it is not the client that was refused")
			}
			if strings.Contains(transcript(s), "MAIL") || !strings.Contains(logs.String(), "out of order") {
				t.Errorf("transcript:\n%s\nlog:\n%s", transcript(s), logs)
			}
		})
	}
}

// What a backend says to this very client after the hand-over is for the client to hear.
func TestRefusedClient(t *testing.T) {
	reject := func(prefix, reply string) func(*backendtest.Session, string) string {
		return func(_ *backendtest.Session, line string) string {
			if strings.HasPrefix(line, prefix) {
				return reply
			}
			return ""
		}
	}
	for _, test := range []struct {
		name    string
		address ClientAddress
		b       backendtest.Behaviour
		code    int
	}{
		{"greeting after XCLIENT", XClient, backendtest.Behaviour{Answer: reject("XCLIENT", "554 5.7.1 go away")}, 554},
		{"EHLO after XCLIENT", XClient, backendtest.Behaviour{Answer: reject("EHLO helo", "550 5.7.1 bad name")}, 550},
		{"greeting after PROXY", ProxyV2, backendtest.Behaviour{Proxy: backendtest.ProxyV2, Greeting: "554 no service for you"}, 554},
		{"EHLO after PROXY", ProxyV2, backendtest.Behaviour{Proxy: backendtest.ProxyV2, Answer: reject("EHLO", "501 syntactically invalid")}, 501},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, second := start(t, test.b), start(t, backendtest.Behaviour{Proxy: test.b.Proxy})
			g, logs := newGroup(t, func(c *Config) { c.ClientAddress = test.address }, s, second)
			_, err := g.Dial(testContext(t), testClient())
			if e := wantError(t, err); !e.Refused || e.Reply.Code != test.code {
				t.Errorf("got %+v", e)
			}
			if logs.String() != "" || len(second.Sessions()) != 0 {
				t.Errorf("the backend was blamed: %s", logs)
			}
		})
	}
}

func TestXclientLine(t *testing.T) {
	all := strings.Fields("NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT")
	for _, test := range []struct {
		name    string
		client  Client
		offered []string
		want    string
	}{
		{"all", testClient(), all, "XCLIENT NAME=client.example.org ADDR=203.0.113.7 PORT=40001 PROTO=ESMTP DESTADDR=198.51.100.1 DESTPORT=25 REVERSE_NAME=client.example.org HELO=helo.example.org"},
		{"only what is offered", testClient(), all[:2], "XCLIENT NAME=client.example.org ADDR=203.0.113.7"},
		{"nothing known", Client{Addr: client6}, all,
			"XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7 PORT=40002 PROTO=SMTP DESTADDR=[UNAVAILABLE] DESTPORT=[UNAVAILABLE] REVERSE_NAME=unknown HELO=[UNAVAILABLE]"},
		{"PTR record of no worth", Client{Addr: client4, ReverseName: "liar.example.net"}, []string{"NAME", "ADDR", "REVERSE_NAME"},
			"XCLIENT NAME=[UNAVAILABLE] ADDR=203.0.113.7 REVERSE_NAME=liar.example.net"},
		{"no PTR record", Client{Addr: client4, ReverseName: Unavailable}, []string{"NAME", "ADDR", "REVERSE_NAME"},
			"XCLIENT NAME=[UNAVAILABLE] ADDR=203.0.113.7 REVERSE_NAME=[UNAVAILABLE]"},
		{"syntax in values", Client{Addr: client4, Helo: "a b\r\nMAIL=+", Login: "u ser"}, []string{"NAME", "ADDR", "HELO", "LOGIN"},
			"XCLIENT NAME=[UNAVAILABLE] ADDR=203.0.113.7 LOGIN=u+20ser HELO=a+20b+0D+0AMAIL+3D+2B"},
		{"long", Client{Addr: client4, Helo: strings.Repeat("x", 256)}, []string{"NAME", "ADDR", "HELO"},
			"XCLIENT NAME=[UNAVAILABLE] ADDR=203.0.113.7 HELO=[UNAVAILABLE]"},
	} {
		if got := string(appendXclient(nil, test.client, test.offered)); got != test.want {
			t.Errorf("%s:\n%s, want\n%s", test.name, got, test.want)
		}
	}
}

func TestXclientLineIsAlwaysOneShortLine(t *testing.T) {
	all := strings.Fields("NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT")
	rapid.Check(t, func(t *rapid.T) {
		c := Client{Addr: client6, Local: local6, Name: rapid.StringN(0, 300, 300).Draw(t, "name"), ReverseName: rapid.StringN(0, 300, 300).Draw(t, "reverse name"), Helo: rapid.StringN(0, 600, 600).Draw(t, "helo"),
			Login: rapid.StringN(0, 300, 300).Draw(t, "login")}
		line := appendXclient(nil, c, all)
		if len(line)+2 > 512 || bytes.ContainsAny(line, "\r\n\x00") || !bytes.Contains(line, []byte(" ADDR=IPV6:2001:db8::7 ")) {
			t.Fatalf("%d bytes: %q", len(line), line)
		}
		for _, attr := range strings.Fields(string(line))[1:] {
			name, value, _ := strings.Cut(attr, "=")
			if decoded, err := wire.ParseXtext(value); err != nil || len(decoded) > 255 || !slices.Contains(all, name) {
				t.Fatalf("%q: %v", attr, err)
			}
		}
	})
}

func TestHelloIsOneWord(t *testing.T) {
	for helo, want := range map[string]string{
		"mail.example.org":       "EHLO mail.example.org",
		"[192.0.2.1]":            "EHLO [192.0.2.1]",
		"under_score":            "EHLO under_score",
		"":                       "EHLO [203.0.113.7]",
		"two words":              "EHLO [203.0.113.7]",
		"x\r\nMAIL FROM:<>":      "EHLO [203.0.113.7]",
		"bücher.example":         "EHLO [203.0.113.7]",
		strings.Repeat("x", 256): "EHLO [203.0.113.7]",
	} {
		if got := string(appendHello(nil, Client{Addr: client4, Helo: helo, Extended: true})); got != want {
			t.Errorf("%q: %s, want %s", helo, got, want)
		}
	}
	if got := string(appendHello(nil, Client{Addr: client6})); got != "HELO [IPv6:2001:db8::7]" {
		t.Error(got)
	}
}

// The library that others use to read PROXY headers reads ours.
func TestProxyHeadersAgainstLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		addr := rapid.Custom(func(t *rapid.T) netip.AddrPort {
			b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")
			ip := netip.AddrFrom16([16]byte(b))
			if rapid.Bool().Draw(t, "v4") {
				ip = netip.AddrFrom4([4]byte(b[:4]))
			}
			return netip.AddrPortFrom(ip, rapid.Uint16().Draw(t, "port"))
		})
		client, local := addr.Draw(t, "client"), addr.Draw(t, "local")
		for version, b := range map[byte][]byte{1: appendProxyV1(nil, client, local), 2: appendProxyV2(nil, client, local)} {
			h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(b)))
			if err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			from, _, ok := h.TCPAddrs()
			if got := from.AddrPort(); !ok || h.Version != version || h.Command != proxyproto.PROXY ||
				got.Addr().Unmap() != client.Addr().Unmap() || got.Port() != client.Port() {
				t.Fatalf("%q: %+v", b, h)
			}
		}
	})
}
