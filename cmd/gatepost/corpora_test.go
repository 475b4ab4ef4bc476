package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/filters/filtertest/suites"
	"gatepost/policy"
	"gatepost/proxy"
	"gatepost/proxy/backend"
	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/config"
	"gatepost/proxy/front"
)

// honestZone speaks for an honest client at 127.0.0.1: what the default rules have against a message then is its content.
const honestZone = `
127.0.0.1         PTR  mail.sender.test
mail.sender.test  A    127.0.0.1
mail.sender.test  TXT  v=spf1 a -all
sender.test       TXT  v=spf1 ip4:127.0.0.1 -all
`

// relay is a proxy with the default rules between a client and a backend, without greeting pause and rate limits.
type relay struct {
	address string

	mu        sync.Mutex        // guards delivered
	delivered map[string][]byte // messages by sender
}

func startRelay(t *testing.T, keywords []string) *relay {
	t.Helper()
	r := &relay{delivered: map[string][]byte{}}
	mta, err := backendtest.Start(backendtest.Behaviour{Keywords: keywords, Deliver: r.deliver})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mta.Close)
	c, engine := defaultPolicy(t, mta.Address())
	group, err := backend.New(c.Backend, backend.Options{Hostname: c.Hostname, DomainsConfigured: true})
	if err != nil {
		t.Fatal(err)
	}
	spill, err := front.NewSpill(t.TempDir(), 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	server, err := proxy.New(proxy.Options{
		Service: proxy.Service{Hostname: c.Hostname, Engine: engine, Runtime: &policy.Runtime{}, Backend: group, Limits: c.Limits, Hold: time.Duration(c.Backend.Hold)},
		Spill:   spill, Log: slog.New(slog.DiscardHandler), Clock: filters.SystemClock{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	socket, err := proxy.Listen{Address: "127.0.0.1:0"}.Bind(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.address = socket.Addr().String()
	var running sync.WaitGroup
	running.Go(func() { group.Run(ctx) })
	running.Go(func() { engine.Run(ctx) })
	<-group.Probed()
	running.Go(func() {
		if err := server.Serve(ctx, socket); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		patience, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		if err := server.Shutdown(patience); err != nil {
			t.Error(err)
		}
		stop()
		running.Wait()
	})
	return r
}

// defaultPolicy is the default rules, in a world where nothing speaks against the client.
func defaultPolicy(t *testing.T, address string) (*config.Config, *policy.Engine) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gatepost.yaml")
	text := fmt.Sprintf("hostname: mx.example.org\ndomains: [example.org]\nbackend: %s\nfilters:\n  ratelimit: {enabled: false}\n  earlytalker: {enabled: false}\n", address)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, problems := config.Load(file, all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	env := filtertest.NewEnv(filtertest.MustParseZone(honestZone))
	env.Hostname, env.Domains = c.Hostname, c.Domains
	engine, problems := c.Compile(all.Specs(), env)
	if engine == nil {
		t.Fatal(problems)
	}
	return c, engine
}

func (r *relay) deliver(m *backendtest.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.delivered[m.Sender] != nil {
		return errors.New("delivered twice")
	}
	r.delivered[m.Sender] = m.Data
	return nil
}

// send takes a message through a session of its own and returns the reply to its end, or the first that is no success.
func (r *relay) send(sender string, message []byte, chunked bool) (string, error) {
	conn, err := net.Dial("tcp", r.address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	input := bufio.NewReader(conn)
	say := func(text []byte) (reply string, err error) {
		if _, err = conn.Write(text); err != nil {
			return "", err
		}
		for {
			reply, err = input.ReadString('\n')
			if err != nil || len(reply) < 4 || reply[3] != '-' {
				return reply, err
			}
		}
	}
	steps := [][]byte{nil, []byte("EHLO mail.sender.test\r\n"), []byte("MAIL FROM:<" + sender + ">\r\n"), []byte("RCPT TO:<b@example.org>\r\n")}
	if chunked {
		steps = append(steps, append(fmt.Appendf(nil, "BDAT %d LAST\r\n", len(message)), message...))
	} else {
		stuffed := bytes.ReplaceAll(append([]byte("\r\n"), message...), []byte("\r\n."), []byte("\r\n.."))[2:]
		steps = append(steps, []byte("DATA\r\n"), append(stuffed, ".\r\n"...))
	}
	reply := ""
	for _, step := range steps {
		if reply, err = say(step); err != nil || reply[0] > '3' {
			break
		}
	}
	return reply, err
}

// onTheWire is a message as an MTA sends it that keeps to the standard: CRLF at the end of every line.
func onTheWire(file []byte) []byte {
	text := bytes.ReplaceAll(bytes.ReplaceAll(file, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
	if !bytes.HasSuffix(text, []byte("\r\n")) {
		text = append(text, "\r\n"...)
	}
	return text
}

// arrived tells what is wrong with a message behind the proxy: our own field may stand on top, the rest is as it was.
func arrived(got, sent []byte) error {
	top, whole := bytes.CutSuffix(got, sent)
	switch {
	case got == nil:
		return errors.New("a 250, and nothing was delivered")
	case !whole:
		return errors.New("it was changed")
	case !bytes.HasPrefix(top, []byte("Authentication-Results: mx.example.org;")) || bytes.Count(top, []byte("\n")) != bytes.Count(top, []byte("\n\t"))+1:
		return fmt.Errorf("on top of it stands %q", top)
	}
	return nil
}

// TestCorpora relays real mail: none of it is refused for its content, and what arrives is what was sent.
func TestCorpora(t *testing.T) {
	root := suites.Path(t, ".")
	relays := [...]*relay{startRelay(t, nil), startRelay(t, []string{"PIPELINING", "8BITMIME", "SIZE"})}
	for name, pattern := range map[string]string{
		"corpora/easy-ham": "corpora/easy-ham-1/*.txt",
		"corpora/spam":     "corpora/spam-1/*.txt",
		"mime/rfc":         "mime/rfc/*.eml",
		"mime/enmime":      "mime/enmime/*/*.raw",
	} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(files) == 0 {
			t.Errorf("no files %s: %v", pattern, err)
			continue
		}
		passed := 0
		for i, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			message, sender := onTheWire(text), strings.ReplaceAll(fmt.Sprintf("%s-%d@sender.test", name, i), "/", "-")
			r := relays[i%2]
			reply, err := r.send(sender, message, i%4 >= 2 && i%2 == 0)
			if err == nil && reply[0] != '2' {
				err = errors.New(reply)
			}
			if err == nil {
				r.mu.Lock()
				err = arrived(r.delivered[sender], message)
				r.mu.Unlock()
			}
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			passed++
		}
		fmt.Printf("suite %s: %d/%d\n", name, passed, len(files))
	}
}
