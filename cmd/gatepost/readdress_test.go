package main

import (
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"gatepost/filters/milter/wire"
)

// TestAMilterReaddresses: a milter that may adds a recipient and takes another one's mail away; the rule calls it by its
// name alone, and why tells what it did.
func TestAMilterReaddresses(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go readdressing(listener)
	s := startServe(t, fmt.Sprintf("journal: {path: journal}\nfilters:\n  milter:\n    - {name: mover, address: 'inet:%s', edits: [recipients], on_error: defer}\n"+
		"rules:\n  - {name: moved, when: known(mover.edits), then: tag, header: 'X-Moved: {mover.action}'}\n", listener.Addr()))
	s.awaitLog("relay check passed")
	c := s.dial()
	c.say("MAIL FROM:<a@example.com>", "250")
	c.say("RCPT TO:<alice@example.org>", "250")
	c.say("RCPT TO:<bob@example.org>", "250")
	c.say("DATA", "354")
	c.say("Subject: x\r\n\r\nhello\r\n.", "250")
	c.say("QUIT", "221")
	messages := s.backend.Messages()
	if len(messages) != 1 || fmt.Sprint(messages[0].Recipients) != "[alice@example.org carol@example.org]" || !strings.Contains(string(messages[0].Data), "X-Moved: continue") {
		t.Fatalf("%d messages, the first to %s:\n%s", len(messages), messages[0].Recipients, messages[0].Data)
	}
	s.awaitLog("msg=transaction")
	s.signal(syscall.SIGTERM)
	s.exit()
	why, status := s.command("why", "a@example.com")
	for _, want := range []string{"to <carol@example.org> too", "not to <bob@example.org>", "delete recipient <bob@example.org>"} {
		if status != 0 || !strings.Contains(why, want) {
			t.Errorf("%d, without %s:\n%s", status, want, why)
		}
	}
}

// readdressing is a milter that sends bob's mail to carol.
func readdressing(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			r := wire.NewReader(conn)
			for {
				code, _, err := r.Next()
				if err != nil {
					return
				}
				answer := wire.Append[string](nil, 'c')
				switch code {
				case 'O':
					answer = (&wire.Negotiation{Version: 6, Actions: 0x1ff}).AppendTo(nil)
				case 'D':
					continue
				case 'E':
					answer = append(wire.AppendTexts(wire.AppendTexts(nil, '+', "<carol@example.org>"), '-', "<bob@example.org>"), answer...)
				}
				if _, err := conn.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}
