package milter

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/filtertest"
	"gatepost/filters/milter/wire"
)

// script is a milter that is told what to answer.
type script struct {
	agree  wire.Negotiation
	answer map[byte][]byte // frames by the command that they answer; missing: CONTINUE. Empty: none
	// act takes the place of answer where it is not nil; n counts the commands of that kind on the connection.
	act func(conn net.Conn, code byte, n int) (frames []byte, done bool)

	mu       sync.Mutex // guards all below
	dials    int
	commands [][]string // by connection: "CODE data", macros included
}

func (s *script) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "unix" || address != "/run/test.sock" {
		return nil, errors.New("a strange address: " + address)
	}
	ours, theirs := net.Pipe()
	s.mu.Lock()
	n := s.dials
	s.dials++
	s.commands = append(s.commands, nil)
	s.mu.Unlock()
	go s.serve(theirs, n)
	return ours, nil
}

func (s *script) serve(conn net.Conn, n int) {
	defer conn.Close()
	queue := make(chan []byte, 10000) // a pipe has no buffer: replies must not wait for commands to be read
	done := make(chan struct{})
	go func() {
		defer close(done)
		for frames := range queue {
			if _, err := conn.Write(frames); err != nil {
				return
			}
		}
	}()
	defer func() { close(queue); conn.Close(); <-done }()
	r := wire.NewReader(conn)
	counts := map[byte]int{}
	for {
		code, _, err := r.Next()
		if err != nil {
			return
		}
		data, err := r.Data()
		if err != nil {
			return
		}
		text := string(code) + " " + strings.ReplaceAll(strings.TrimSuffix(string(data), "\x00"), "\x00", "|")
		if code == byte(milter.CodeOptNeg) {
			text = "O"
		}
		s.mu.Lock()
		s.commands[n] = append(s.commands[n], text)
		s.mu.Unlock()
		counts[code]++
		frames, over := s.reply(conn, code, counts[code])
		if len(frames) > 0 {
			queue <- slices.Clone(frames)
		}
		if over {
			return
		}
	}
}

var cont = wire.Append[string](nil, byte(milter.ActContinue))

func (s *script) reply(conn net.Conn, code byte, n int) ([]byte, bool) {
	if s.act != nil {
		if frames, over := s.act(conn, code, n); frames != nil || over {
			return frames, over
		}
	}
	if frames, ok := s.answer[code]; ok {
		return frames, false
	}
	silent := map[byte]milter.OptProtocol{'C': milter.OptNoConnReply, 'H': milter.OptNoHeloReply, 'M': milter.OptNoMailReply, 'R': milter.OptNoRcptReply,
		'T': milter.OptNoDataReply, 'L': milter.OptNoHeaderReply, 'N': milter.OptNoEOHReply, 'B': milter.OptNoBodyReply}
	switch code {
	case 'O':
		agree := s.agree
		if agree.Version == 0 {
			agree.Version = 6
		}
		return agree.AppendTo(nil), false
	case 'D', 'K', 'A':
		return nil, false
	case 'Q':
		return nil, true
	}
	if s.agree.Protocol&silent[code] != 0 {
		return nil, false
	}
	return cont, false
}

func (s *script) said(connection int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.commands[connection])
}

// verbs are the commands of a connection without macros, their codes in a row.
func (s *script) verbs(connection int) string {
	text := ""
	for _, c := range s.said(connection) {
		if c[0] != 'D' {
			text += c[:1]
		}
	}
	return text
}

func (s *script) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

type setting struct {
	config Config
	env    filters.Env
}

func newFilter(t *testing.T, s filters.Dialer, change func(*setting)) *Filter {
	t.Helper()
	set := setting{config: Defaults(), env: filtertest.NewEnv(filtertest.NewZone())}
	set.config.Name, set.config.Address = "test", Address{"unix", "/run/test.sock"}
	set.config.Silence = filters.Duration(5 * time.Second)
	set.env.Dialer = s
	if change != nil {
		change(&set)
	}
	if err := set.config.Validate(); err != nil {
		t.Fatal(err)
	}
	f, err := New(set.config, set.env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		f.Run(ended)
	})
	return f
}

const sample = "Received: by a\r\nSubject:  two spaces\r\n\tfolded\r\nX:none\r\n\r\nbody\r\n.dot\r\n"

func viewOf(text string, recipients ...string) filters.View {
	v := filtertest.Mailed("192.0.2.1", "mail.example.com", "sender@example.com")
	v.Envelope.Params = []filters.Param{{Key: "SIZE", Value: "100", HasValue: true}, {Key: "SMTPUTF8"}}
	if len(recipients) == 0 {
		recipients = []string{"joe@example.org"}
	}
	for _, r := range recipients {
		v.Recipients = append(v.Recipients, &filters.Recipient{ForwardPath: r})
	}
	v.Message = complete(text)
	return v
}

func complete(text string) *filters.Message {
	m := filters.NewMessage(1<<20, nil)
	m.Write([]byte(text))
	m.Complete()
	return m
}

func observe(t *testing.T, f *Filter, v filters.View) *Facts {
	t.Helper()
	facts, err := f.Message(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	return facts
}
