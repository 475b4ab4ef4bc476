//go:build mta

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
)

//mta:packages miltertest

// miltertest plays the MTA: scripts of ours for the edges that real ones do not show.
func TestMTAMiltertest(t *testing.T) {
	prepareRoot(t)
	scripts, err := filepath.Glob("testdata/miltertest/*.lua")
	if err != nil || len(scripts) < 2 {
		t.Fatalf("no scripts: %v", err)
	}
	common, err := os.ReadFile("testdata/miltertest/lib.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"unix", "inet"} {
		t.Run(kind, func(t *testing.T) {
			s := &site{mta: &mta{name: "miltertest"}, root: mtaRoot(t), front: machine, back: machine, misused: true}
			s.startMilter(t, kind)
			passed := 0
			for _, script := range scripts {
				name := filepath.Base(script)
				if name == "lib.lua" {
					continue
				}
				text, err := os.ReadFile(script)
				if err != nil {
					t.Fatal(err)
				}
				s.write(t, "/tmp/"+name, string(common)+"run(function()\n"+string(text)+"\nend)\n")
				if t.Run(strings.TrimSuffix(name, ".lua"), func(t *testing.T) { s.call(t, "miltertest -D socket="+s.milter+" -s /tmp/"+name) }) {
					passed++
				}
			}
			fmt.Printf("mta miltertest by milter at %s: %d scripts passed\n", kind, passed)
			t.Run("frames", func(t *testing.T) { s.sendsFrames(t) })
		})
	}
}

// sendsFrames has what miltertest cannot send: frames out of order, out of bounds and torn, and a connection that serves
// one client after the other. Each begins with the negotiation, whose answer is not in want.
func (s *site) sendsFrames(t *testing.T) {
	client := wire.Connect{Name: "unknown", Family: milter.FamilyInet, Port: 40000, Address: "192.0.2.77"}
	hello := wire.AppendTexts(client.AppendTo(nil), byte(milter.CodeHelo), "client.test")
	mail := wire.AppendTexts(nil, byte(milter.CodeMail), "<bob@example.net>")
	envelope := wire.AppendTexts(mail, byte(milter.CodeRcpt), "<alice@example.org>")
	end := wire.Append[string](nil, byte(milter.CodeEOB))
	subject := func(text string) []byte {
		return append(wire.AppendTexts(nil, byte(milter.CodeHeader), "Subject", " "+text), end...)
	}
	message := subject("x")
	next := wire.Append[string](nil, byte(milter.CodeQuitNewConn))
	quit := wire.Append[string](nil, byte(milter.CodeQuit))
	edited := "iiic" // our fields, and the end
	broken := ""     // the connection is closed, and what was not written yet is not said any more
	for _, test := range []struct {
		name   string
		frames [][]byte
		want   string // codes of the answers, up to the end of the connection
	}{
		{"one client after the other", [][]byte{hello, envelope, message, next, hello, envelope, message, quit}, "cccc" + edited + "cccc" + edited},
		{"QUIT_NC in the middle of a message", [][]byte{hello, envelope, message[:len(message)-len(end)], next, hello, envelope, message, quit}, "cccc" + "cccc" + edited},
		{"two lines and a percent sign", [][]byte{hello, envelope, subject("e5"), envelope, subject("x"), quit}, "cccc" + "y554:2:5.7.1 100% end cc" + edited},
		{"421", [][]byte{hello, envelope, subject("e421"), quit}, "cccc" + "y421:1:4.7.0 go ID "},
		{"quarantine", [][]byte{hello, envelope, subject("held"), envelope, subject("x"), quit}, "cccc" + "iiqccc" + edited},
		{"discard", [][]byte{hello, envelope, subject("void"), envelope, subject("x"), quit}, "cccc" + "dcc" + edited},
		{"MAIL before CONNECT", [][]byte{envelope, quit}, "tt"},
		{"RCPT before MAIL", [][]byte{hello, envelope[len(mail):], envelope, message, quit}, "cctcc" + edited},
		{"the end before MAIL", [][]byte{hello, end, envelope, message, quit}, "cctcc" + edited},
		{"CONNECT again", [][]byte{hello, envelope, hello, envelope, message, quit}, "cccc" + "cccc" + edited},
		{"an oversized HEADER", [][]byte{hello, envelope, {0x01, 0, 0, 0, byte(milter.CodeHeader)}, message}, broken},
		{"an oversized body", [][]byte{hello, envelope, {0x7f, 0xff, 0xff, 0xff, byte(milter.CodeBody)}, message}, broken},
		{"a frame without a code", [][]byte{hello, {0, 0, 0, 0, 0}}, broken},
		{"a command that there is not", [][]byte{hello, wire.Append[string](nil, '!'), envelope}, broken},
		{"a torn CONNECT", [][]byte{wire.Append[string](nil, byte(milter.CodeConn), "x")}, broken},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := record.ReplaceAllString(s.exchangeFrames(t, test.frames), "ID"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// record is the name of a record in a reply.
var record = regexp.MustCompile(`\(id [^)]*\)`)

// exchangeFrames returns the codes of all answers behind the negotiation.
func (s *site) exchangeFrames(t *testing.T, frames [][]byte) string {
	t.Helper()
	network, address, _ := strings.Cut(strings.Replace(s.milterAddress, "inet:", "tcp:", 1), ":")
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	offer := wire.Negotiation{Version: 6, Actions: 0x1ff, Protocol: 0x1fffff}
	out := offer.AppendTo(nil)
	for _, frame := range frames {
		out = append(out, frame...)
	}
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	var codes []byte
	for r := wire.NewReader(conn); ; {
		code, _, err := r.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return strings.TrimPrefix(string(codes), "O")
		}
		if err != nil {
			t.Fatalf("behind %q: %v", codes, err)
		}
		if codes = append(codes, code); code == byte(milter.ActReplyCode) {
			data, _ := r.Data()
			status, lines, _ := wire.ParseReply(data)
			codes = fmt.Appendf(codes, "%d:%d:%s ", status, len(lines), lines[0])
		}
	}
}
