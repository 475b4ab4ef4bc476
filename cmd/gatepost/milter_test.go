package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/config"
)

// TestCalledHouse runs the house with a milter and a policy server, alone and beside the proxy: they serve, reload and end.
func TestCalledHouse(t *testing.T) {
	mta, err := backendtest.Start(backendtest.Behaviour{})
	if err != nil {
		t.Fatal(err)
	}
	defer mta.Close()
	for _, beside := range []bool{false, true} {
		t.Run(fmt.Sprintf("beside the proxy: %t", beside), func(t *testing.T) {
			folder := t.TempDir()
			file, socket, policySocket := filepath.Join(folder, "gatepost.yaml"), filepath.Join(folder, "m.sock"), filepath.Join(folder, "p.sock")
			listen := ""
			if beside {
				listen = fmt.Sprintf("listen: [{address: \"127.0.0.1:0\"}]\nbackend: %s\n", mta.Address())
			}
			write := func(rules string) {
				text := fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nmilter: [{address: %q}]\npolicy_server: [{address: %q}]\nstore: {path: %s}\nresolver: {servers: [\"127.0.0.1:1\"], timeout: 100ms, attempt: 50ms}\n%srules: [%s]\n", "unix:"+socket, "unix:"+policySocket, folder, listen, rules)
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("")
			c, problems := config.Load(file, all.Specs())
			if c == nil {
				t.Fatal(problems)
			}
			log := slog.New(slog.DiscardHandler)
			h, err := build(file, c, log, filters.SystemClock{}, newRecorder(log))
			if err != nil {
				t.Fatal(err)
			}
			sockets, err := openAll(t.Context(), c, nil)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- h.serve(context.Background(), sockets) }()
			h.awaitBackend(t.Context())

			if got := askMilter(t, socket, "a@bad.test"); got.Code != milter.ActContinue {
				t.Errorf("%+v", got)
			}
			if got := askPolicyServer(t, policySocket, "a@bad.test"); got != "action=DUNNO\n\n" {
				t.Errorf("%q", got)
			}
			write("{name: bad, when: 'mail.domain == \"bad.test\"', then: reject, at: mail}")
			if err := h.reload(); err != nil {
				t.Fatal(err)
			}
			if got := askMilter(t, socket, "a@bad.test"); got.SMTPCode != 550 {
				t.Errorf("%+v", got)
			}
			if got := askPolicyServer(t, policySocket, "a@bad.test"); !strings.HasPrefix(got, "action=550 5.7.1 ") {
				t.Errorf("%q", got)
			}
			relays := listen == ""
			if relays {
				listen = fmt.Sprintf("listen: [{address: \"127.0.0.1:0\"}]\nbackend: %s\n", mta.Address())
			} else {
				listen = ""
			}
			write("")
			if err := h.reload(); err != nil {
				t.Errorf("another front end: %v", err)
			}
			if n := h.server.Gauges().Listeners; (n == 1) != relays || (h.force.backends != nil) != relays {
				t.Errorf("%d addresses for SMTP, %+v", n, h.force.backends)
			}
			if got := askMilter(t, socket, "a@bad.test"); got.Code != milter.ActContinue {
				t.Errorf("%+v", got)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := h.shutdown(ctx); err != nil || ctx.Err() != nil {
				t.Errorf("%v, %v", err, ctx.Err())
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			for _, path := range []string{socket, policySocket} {
				if _, err := net.Dial("unix", path); err == nil {
					t.Errorf("%s is still served", path)
				}
			}
		})
	}
}

// askMilter is a session up to MAIL.
func askMilter(t *testing.T, socket, from string) *milter.Action {
	t.Helper()
	client := milter.NewClientWithOptions("unix", socket, milter.ClientOptions{ActionMask: 0x1ff, ProtocolMask: 0x1ffbff,
		ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second})
	s, err := client.Session()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Conn("unknown", milter.FamilyInet, 25, "192.0.2.77"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Helo("client.test"); err != nil {
		t.Fatal(err)
	}
	a, err := s.Mail(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// askPolicyServer is Postfix's question about a recipient.
func askPolicyServer(t *testing.T, socket, from string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=192.0.2.77\nsender=%s\nrecipient=b@example.org\ninstance=1\n\n", from)
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer[:n])
}
