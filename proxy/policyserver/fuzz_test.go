package policyserver

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/called"
	"gatepost/rules"
)

// FuzzRequests: whatever is sent, the server answers with one line and an empty one, or hangs up, and panics nowhere.
func FuzzRequests(f *testing.F) {
	engine, _ := compile(f, &setup{rules: []rules.Definition{
		rule("r5", `rcpt.local == "r5"`, "reject", "reply", "550 5.7.1 {rcpt.address} {helo.name}"),
		rule("grey", `mail.local == "grey"`, "greylist"),
		rule("hole", `mail.local == "hole"`, "discard"),
		rule("tag", `true`, "tag", "header", "X-A: {mail.address} {client.name} {helo.user}"),
		rule("d4", `rcpt.domain == "example.com"`, "defer", "at", "data"),
	}})
	server, err := New(Options{Log: slog.New(slog.DiscardHandler), Clock: filters.SystemClock{},
		Service: called.Service{Hostname: "mx.test", Engine: engine, Runtime: &policy.Runtime{}, Limits: proxy.DefaultLimits()}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { server.Shutdown(context.Background()) })
	const head = "request=smtpd_access_policy\nclient_address=192.0.2.7\nclient_name=x\nhelo_name=y\n"
	f.Add([]byte(head + "protocol_state=RCPT\nsender=a@b.test\nrecipient=r5@example.org\ninstance=1.2\n\n" + head + "protocol_state=DATA\nsender=a@b.test\ninstance=1.2\n\n"))
	f.Add([]byte(head + "protocol_state=CONNECT\n\n" + head + "protocol_state=EHLO\n\n" + head + "protocol_state=MAIL\nsender=grey@b\n\n" + head + "protocol_state=RCPT\nsender=grey@b\nrecipient=c@d\ninstance=1\n\n"))
	f.Add([]byte(head + "protocol_state=END-OF-MESSAGE\nsender=hole@b\nrecipient=c@example.com\nsize=99\nqueue_id=4A\n\n"))
	f.Add([]byte("request=smtpd_access_policy\nprotocol_state=RCPT\nsasl_username=u\nencryption_protocol=TLSv1.3\n\n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		ours, theirs := net.Pipe()
		ours.SetDeadline(time.Now().Add(10 * time.Second))
		var answers strings.Builder
		var running sync.WaitGroup
		running.Go(func() { io.Copy(&answers, ours) })
		running.Go(func() { server.Hold(&Listen{}, theirs) })
		ours.Write(stream)
		ours.Close()
		running.Wait()
		if m := server.Metrics(); m.Panics.Load() != 0 || m.Open.Load() != 0 {
			t.Fatalf("%d panics, %d open", m.Panics.Load(), m.Open.Load())
		}
		for answer := range strings.SplitSeq(strings.TrimSuffix(answers.String(), "\n\n"), "\n\n") {
			if answer != "" && (!strings.HasPrefix(answer, "action=") || strings.ContainsAny(answer, "\n\r\x00")) {
				t.Fatalf("%q", answer)
			}
		}
	})
}
