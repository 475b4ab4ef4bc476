package backend

import (
	"testing"

	"gatepost/proxy/wire"
)

const ehloReply = "250-backend.test\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-VRFY\r\n250-ETRN\r\n250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\r\n" +
	"250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n"

func mustReply(t testing.TB, s string) wire.Reply {
	r, n, err := wire.ParseReply([]byte(s), maxReplyLine, maxReplyLines)
	if err != nil || n != len(s) {
		t.Fatal(n, err)
	}
	return r
}

func TestParseExtensions(t *testing.T) {
	e := parseExtensions(mustReply(t, ehloReply), Default().Extensions)
	want := Extensions{Size: 10240000, Pipelining: true, EightBit: true, SMTPUTF8: true, DSN: true, Chunking: true, EnhancedCodes: true,
		XClient: []string{"NAME", "ADDR", "PROTO", "HELO", "REVERSE_NAME", "PORT", "LOGIN", "DESTADDR", "DESTPORT"}}
	if !e.equal(want) {
		t.Errorf("%+v", e)
	}
	e = parseExtensions(mustReply(t, ehloReply), []string{"dsn", "VRFY", "EXPN", "ETRN", "HELP"})
	if !e.equal(Extensions{Size: -1, DSN: true, VRFY: true, ETRN: true, XClient: want.XClient}) {
		t.Errorf("only some allowed: %+v", e)
	}
	for line, size := range map[string]int64{"SIZE": 0, "SIZE 0": 0, "size 7": 7, "SIZE x": 0, "SIZE -1": 0, "SIZE 99999999999999999999": 0, "SIZES": -1} {
		if e := parseExtensions(mustReply(t, "250-SIZE 5\r\n250 "+line+"\r\n"), knownExtensions); e.Size != size {
			t.Errorf("%s: %d, want %d", line, e.Size, size)
		}
	}
}

// The name of the server in the first line is no keyword, and no answer makes the keywords contradict each other.
func FuzzParseExtensions(f *testing.F) {
	f.Add([]byte(ehloReply))
	f.Add([]byte("250-PIPELINING\r\n250 BINARYMIME\r\n"))
	f.Add([]byte("250 \r\n"))
	f.Add([]byte("250-b\r\n250-LIMITS RCPTMAX=3\r\n250-AUTH PLAIN\r\n250-X-LOCAL \x01\r\n250 MT-PRIORITY MIXER\r\n"))
	allowed := append([]string{"MT-PRIORITY", "X-LOCAL", "RRVS"}, knownExtensions...)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := wire.ParseReply(b, maxReplyLine, maxReplyLines)
		if err != nil {
			return
		}
		e := parseExtensions(r, allowed)
		for _, k := range e.Passed {
			if !printable(k.String()) || len(k.String()) > 1+64+maxPassedArgs {
				t.Errorf("%q would be offered to clients", k)
			}
		}
		if len(r.Lines) == 1 && !e.equal(noExtensions) || e.Size < -1 || e.BinaryMIME && !e.Chunking {
			t.Errorf("%+v", e)
		}
		if !e.equal(e) || e.missing(e) != "" || e.and(e).missing(e) != "" {
			t.Errorf("%+v is not like itself", e)
		}
	})
}

func TestMissing(t *testing.T) {
	for _, test := range []struct {
		offered, promised int64
		want              string
	}{
		{-1, -1, ""}, {0, -1, ""}, {5, -1, ""},
		{-1, 0, "SIZE"}, {0, 0, ""}, {5, 0, "SIZE 0"},
		{-1, 5, "SIZE"}, {0, 5, ""}, {5, 5, ""}, {6, 5, ""}, {4, 5, "SIZE 5"},
	} {
		if got := (Extensions{Size: test.offered}).missing(Extensions{Size: test.promised}); got != test.want {
			t.Errorf("%d for %d: %q, want %q", test.offered, test.promised, got, test.want)
		}
	}
}
