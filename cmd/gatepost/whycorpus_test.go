package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
)

// The corpus of decisions is the files in testdata/why: each is a site (a configuration with rules made for it, a zone, a
// backend that can be told what to answer) and sessions with it. For every session `gatepost why` must name the rule that
// decided and the place where it stands, and show the reply with all its bytes.
//
//	-- config --       YAML, in front of which nothing is put: line numbers are those of this section
//	-- zone --         what the DNS knows, as filtertest.ParseZone reads it, and faults
//	-- lists/NAME --   a list file
//	-- backend --      "SENDER PREFIX => REPLY" for commands in transactions of a sender ("." is the end of a message);
//	                   "without KEYWORD" for what it does not offer
//	-- milter --       see corpusMilter; MILTER stands for its address
//	-- session NAME -- see corpusSession.step
type corpusSite struct {
	*served
	sessions []*corpusSession
}

func TestWhyCorpus(t *testing.T) {
	files, err := filepath.Glob("testdata/why/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	sessions, shown := 0, newCovered()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sessions += strings.Count(string(text), "\n-- session ")
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			site := startCorpusSite(t, string(text))
			site.run()
			shown.read(t, site.journal())
		})
	}
	if sessions < 60 {
		t.Errorf("the corpus has %d sessions, want 60 at least", sessions)
	}
	shown.complain(t)
	fmt.Printf("why: a corpus of %d sessions\n", sessions)
}

var sectionHead = regexp.MustCompile(`(?m)^-- (.+) --\n`)

// startCorpusSite runs a site. Its clients come through a PROXY header, so that each can be somebody else.
func startCorpusSite(t *testing.T, text string) *corpusSite {
	t.Helper()
	c := &corpusSite{}
	s := &served{t: t, folder: t.TempDir()}
	c.served, s.file = s, filepath.Join(s.folder, "gatepost.yaml")
	config, zone, milter, behaviour := "", "", "", backendtest.Behaviour{Domains: []string{"example.org"}}
	heads := sectionHead.FindAllStringSubmatchIndex(text, -1)
	for i, head := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		name, body := text[head[2]:head[3]], text[head[1]:end]
		kind, rest, _ := strings.Cut(name, " ")
		switch {
		case kind == "config":
			config = body
		case kind == "zone":
			zone = body
		case kind == "backend":
			script(&behaviour, body)
		case kind == "milter":
			milter = startCorpusMilter(t, body)
		case kind == "session":
			c.sessions = append(c.sessions, &corpusSession{site: c, name: rest, text: body, client: fmt.Sprintf("198.51.100.%d", len(c.sessions)+1)})
		case strings.HasPrefix(kind, "lists/"):
			write(t, filepath.Join(s.folder, kind), body)
		default:
			t.Fatalf("what is -- %s --?", name)
		}
	}
	backend, err := backendtest.Start(behaviour)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	s.backend = backend
	config = strings.ReplaceAll(config, "MILTER", milter)
	config += strings.ReplaceAll(settingsWithout("resolver"), "\ndomains: [example.org]\n", "\n")
	if !strings.Contains(config, "\ndomains:") {
		config += "domains: [example.org]\n"
	}
	config += fmt.Sprintf("resolver: {servers: [%q], timeout: 1s, attempt: 500ms}\n", serveZone(t, zone))
	config += "listen:\n  - {address: '127.0.0.1:0', proxy_from: [127.0.0.1]}\n"
	s.configure(config)
	s.run()
	return c
}

// run has all sessions first and asks about them then: entries are written within a second.
func (c *corpusSite) run() {
	for _, s := range c.sessions {
		c.t.Run(s.name, func(t *testing.T) { s.t = t; s.play() })
	}
	c.signal(15)
	if status := c.exit(); status != 0 {
		c.t.Fatalf("it ended with status %d", status)
	}
	for _, s := range c.sessions {
		c.t.Run(s.name+"/why", func(t *testing.T) { s.t = t; s.ask() })
	}
}

// script makes a backend answer as it is told.
func script(b *backendtest.Behaviour, text string) {
	type answer struct{ sender, prefix, reply string }
	var answers []answer
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if keyword, ok := strings.CutPrefix(line, "without "); ok {
			for _, k := range backendtest.PostfixKeywords {
				if k != keyword {
					b.Keywords = append(b.Keywords, k)
				}
			}
			continue
		}
		command, reply, ok := strings.Cut(line, " => ")
		sender, prefix, _ := strings.Cut(command, " ")
		if ok {
			reply = strings.NewReplacer(`\r\n`, "\r\n", "HANGUP", backendtest.Hangup, "STALL", backendtest.Stall).Replace(reply)
			answers = append(answers, answer{sender, prefix, reply})
		}
	}
	senders := &senders{bySession: map[*backendtest.Session]string{}}
	b.Answer = func(s *backendtest.Session, line string) string {
		sender := senders.of(s, line)
		for _, a := range answers {
			if a.sender == sender && strings.HasPrefix(line, a.prefix) {
				return a.reply
			}
		}
		return ""
	}
}

// corpusSession is one session and what `why` has to say of it.
type corpusSession struct {
	t      *testing.T
	site   *corpusSite
	name   string
	text   string
	client string
	number int // of the line at hand

	conn  *corpusClient
	reply string   // with all its bytes, the one that why has to show
	wants []string // the lines of the text that are questions, with their numbers
}

func (s *corpusSession) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("line %d of the session: %s", s.number, fmt.Sprintf(format, args...))
}

// play speaks the session's lines and keeps the questions for later.
func (s *corpusSession) play() {
	for line := range strings.Lines(s.text) {
		s.number++
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		s.step(line)
	}
	if s.conn != nil {
		s.conn.end()
	}
}

// step obeys one line:
//
//	client IP          who it is; before anything else
//	C: TEXT            the client sends a line; C"TEXT" sends exactly these bytes
//	hello              the greeting, EHLO and its reply
//	S: BEGINNING       a reply begins so; "S: EOF": the connection ends
//	S! BEGINNING       the same, and this is the reply that why must show
//	hang up, wait 1s   the client does
//	again              a further connection of the same client
//	fill N             so many bytes are sent in lines
//	stop backend       and it does not come again
//	run COMMAND        a command of Gatepost
//	why …              and all lines behind it: see ask
func (s *corpusSession) step(line string) {
	kind, rest, _ := strings.Cut(line, " ")
	switch {
	case len(s.wants) > 0 || kind == "why":
		s.wants = append(s.wants, line)
	case kind == "client":
		s.client = rest
	case kind == "again":
		s.conn.end()
		s.conn = nil
	case line == "stop backend":
		s.site.backend.Close()
	case kind == "fill":
		size, err := strconv.Atoi(rest)
		if err != nil {
			s.fatalf("%v", err)
		}
		s.connection().send(strings.Repeat(strings.Repeat("x", 68)+"\r\n", size/70+1)[:size])
	case kind == "hello":
		s.hear("220 ")
		s.connection().send("EHLO client.example.net\r\n")
		s.hear("250 ")
	case kind == "C:":
		s.connection().send(rest + "\r\n")
	case strings.HasPrefix(line, `C"`):
		text, err := strconv.Unquote(line[1:])
		if err != nil {
			s.fatalf("%v", err)
		}
		s.connection().send(text)
	case kind == "S:":
		s.hear(rest)
	case kind == "S!":
		s.reply = s.hear(rest)
	case line == "hang up":
		s.connection().end()
	case kind == "wait":
		pause, err := time.ParseDuration(rest)
		if err != nil {
			s.fatalf("%v", err)
		}
		time.Sleep(pause)
	case kind == "run":
		if text, status := s.site.command(strings.Fields(rest)...); status != 0 {
			s.fatalf("%s: status %d: %s", rest, status, text)
		}
	default:
		s.fatalf("what is %q?", line)
	}
}

func (s *corpusSession) connection() *corpusClient {
	if s.conn == nil {
		s.conn = dialCorpus(s)
	}
	return s.conn
}

// hear reads a reply, whose last line must begin as wanted, and returns all of it.
func (s *corpusSession) hear(want string) string {
	s.t.Helper()
	reply, last := s.connection().reply()
	if want == "EOF" && reply == "" {
		return ""
	}
	if !strings.HasPrefix(last, want) {
		s.fatalf("want %q, got %q", want, reply)
	}
	return reply
}
