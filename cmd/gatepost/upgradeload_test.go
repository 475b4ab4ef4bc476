package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// How much TestUpgradesUnderLoad does; `make test-upgrade` has ten upgrades under a thousand sessions.
func fromEnvironment(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// loadSettings offer TLS, hold back replies to one sender, greylist another, and limit connections.
const loadSettings = settings + `limits: {connections: 20000, connections_per_client: 20}
journal: {path: journal}
filters:
  greylist: {delay: 1s, window: 1h, keep: 1d, ipv4_prefix: 32}
  ratelimit:
    limits:
      - {name: connections, count: connections, per: client, rate: 8/1h, burst: 8}
rules:
  - {name: too-many, when: 'ratelimit.connection != "" and client.ip == "127.0.9.9"', then: defer, at: connect, reply: 421 4.7.0 Too many}
  - {name: slowly, when: 'mail.address == "slow@example.net"', then: slow, delay: 1s}
  - {name: grey, when: 'mail.address == "grey@example.net" or mail.address == "gray@example.net"', then: greylist}
`

// crowd is the clients of a test. What goes wrong with any of them is kept.
type crowd struct {
	t       *testing.T
	address string
	end     chan struct{} // closed: nobody begins anything new

	serial   atomic.Int64
	sessions atomic.Int64 // that have begun
	quick    atomic.Int64 // of those that only look in
	began    time.Time    // when the first of them came

	mu       sync.Mutex // guards all below
	accepted map[string]int
	wrong    []string
}

func (c *crowd) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.wrong) < 20 {
		c.wrong = append(c.wrong, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

func (c *crowd) ended() bool {
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

// pause waits for a random while, less when the test ends.
func (c *crowd) pause(most time.Duration) {
	select {
	case <-time.After(rand.N(most)):
	case <-c.end:
		time.Sleep(rand.N(most / 10))
	}
}

// talker is a client that notes what goes wrong rather than ending the test.
type talker struct {
	conn net.Conn
	in   *bufio.Reader
}

// from dials from an address of the loopback network, for each client is one.
func (c *crowd) from(source string) (*talker, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}, Timeout: patience}
	conn, err := d.Dial("tcp", c.address)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	return &talker{conn, bufio.NewReader(conn)}, nil
}

func (k *talker) send(text string) error {
	_, err := k.conn.Write([]byte(text))
	return err
}

// reply reads one, and returns its last line; an error if it does not begin so.
func (k *talker) reply(want string) (string, error) {
	for {
		line, err := k.in.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("want %s, got %q and %w", want, line, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, want) {
			return line, fmt.Errorf("want %s, got %q", want, line)
		}
		return line, nil
	}
}

func (k *talker) say(line, want string) error {
	if err := k.send(line + "\r\n"); err != nil {
		return err
	}
	_, err := k.reply(want)
	return err
}

// person is a session from its beginning to its QUIT, in one of the manners that there are.
func (c *crowd) person(n int) {
	manner := n % 5
	c.sessions.Add(1)
	if err := c.visit(fmt.Sprintf("127.0.%d.%d", 10+n/200, 1+n%200), manner); err != nil {
		c.complain("a session (manner %d): %v", manner, err)
	}
}

func (c *crowd) visit(source string, manner int) error {
	k, err := c.from(source)
	if err != nil {
		return err
	}
	defer k.conn.Close()
	if _, err := k.reply("220 mx.example.org"); err != nil {
		return err
	}
	if err := k.say("EHLO client.example.net", "250"); err != nil {
		return err
	}
	if manner == 1 {
		if err := k.startTLS(); err != nil {
			return err
		}
	}
	for range 1 + rand.IntN(3) {
		if manner == 0 {
			c.pause(3 * time.Second) // idle
		}
		if err := c.message(k, manner); err != nil {
			return err
		}
		if c.ended() {
			break
		}
	}
	return k.say("QUIT", "221")
}

func (k *talker) startTLS() error {
	if err := k.say("STARTTLS", "220"); err != nil {
		return err
	}
	over := tls.Client(k.conn, &tls.Config{InsecureSkipVerify: true})
	if err := over.Handshake(); err != nil {
		return err
	}
	k.conn, k.in = over, bufio.NewReader(over)
	return k.say("EHLO client.example.net", "250")
}

// message sends one that can be told from all others.
func (c *crowd) message(k *talker, manner int) error {
	token := fmt.Sprintf("token-%d", c.serial.Add(1))
	sender := "bob@example.net"
	if manner == 2 {
		sender = "slow@example.net" // held back
	}
	commands := []string{"MAIL FROM:<" + sender + ">", "RCPT TO:<alice@example.org>", "DATA"}
	if manner == 3 { // in one go
		if err := k.send(strings.Join(commands, "\r\n") + "\r\n"); err != nil {
			return err
		}
	}
	for i, want := range []string{"250", "250", "354"} {
		var err error
		if manner == 3 {
			_, err = k.reply(want)
		} else {
			err = k.say(commands[i], want)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", commands[i], err)
		}
	}
	parts := []string{"Subject: " + token + "\r\n", "X-Token: " + token + "\r\n\r\nHello.\r\n", strings.Repeat("One more line.\r\n", 50), ".\r\n"}
	for _, part := range parts {
		if manner == 4 {
			c.pause(time.Second) // in the middle of the message
		}
		if err := k.send(part); err != nil {
			return err
		}
	}
	if _, err := k.reply("250"); err != nil {
		return fmt.Errorf("end of data: %w", err)
	}
	c.mu.Lock()
	c.accepted[token]++
	c.mu.Unlock()
	return nil
}

// lookIn is a client that comes and goes.
func (c *crowd) lookIn(n int64) {
	k, err := c.from(fmt.Sprintf("127.1.%d.%d", n/250%250, 1+n%250))
	if err == nil {
		defer k.conn.Close()
		if _, err = k.reply("220"); err == nil {
			err = k.say("QUIT", "221")
		}
	}
	if err != nil {
		c.complain("a connection: %v", err)
	}
	c.quick.Add(1)
}

// fill keeps so many sessions going, and begins a connection every millisecond, until end.
func (c *crowd) fill(sessions int, everyone *sync.WaitGroup) {
	for n := range sessions {
		everyone.Go(func() {
			for !c.ended() {
				c.person(n)
			}
		})
	}
	everyone.Go(func() { c.come(everyone) })
}

// lookersAtOnce bounds how many of those who only look in are there: on a machine that cannot do more, they become fewer.
const lookersAtOnce = 500

// come begins a connection for every millisecond that has passed: a machine that was busy for a while catches up.
func (c *crowd) come(everyone *sync.WaitGroup) {
	c.began = time.Now()
	places := make(chan struct{}, lookersAtOnce)
	for n := int64(0); ; n++ {
		select {
		case places <- struct{}{}:
		case <-c.end:
			return
		}
		everyone.Go(func() { c.lookIn(n); <-places })
		select {
		case <-time.After(time.Until(c.began.Add(time.Duration(n+1) * time.Millisecond))):
		case <-c.end:
			return
		}
	}
}

var (
	tokenField = regexp.MustCompile(`X-Token: (token-\d+)\r\n`)
	logID      = regexp.MustCompile(`msg=transaction id=(\S+)`)
)

// TestUpgradesUnderLoad upgrades again and again while sessions are in random states. None is cut, no connection is
// refused, no message is lost or comes twice, and what was counted and remembered goes on.
func TestUpgradesUnderLoad(t *testing.T) {
	upgrades, sessions := fromEnvironment("GATEPOST_UPGRADES", 3), fromEnvironment("GATEPOST_UPGRADE_SESSIONS", 100)
	folder := t.TempDir()
	certificate(t, folder, "mx.example.org")
	text := strings.Replace(loadSettings, `backend: "BACKEND"`, `backend: {address: "BACKEND", connections: 3000}`, 1)
	s := startServeWith(t, text+fmt.Sprintf("listen: {address: '127.0.0.1:0', certificate: %s/cert.pem, key: %s/key.pem}\n", folder, folder))
	c := &crowd{t: t, address: s.address, end: make(chan struct{}), accepted: map[string]int{}}
	var everyone sync.WaitGroup
	c.fill(sessions, &everyone)
	time.Sleep(time.Second)

	memory := s.remembers(c)
	for n := range upgrades {
		began := time.Now()
		output, status := s.command("upgrade")
		if status != 0 {
			t.Errorf("upgrade %d: exit status %d: %s", n+1, status, output)
		}
		t.Logf("upgrade %d took %v: %s", n+1, time.Since(began).Round(time.Millisecond), strings.TrimSpace(output))
		memory.check(n)
		time.Sleep(500 * time.Millisecond)
	}
	memory.last()
	rate := float64(c.quick.Load()) / time.Since(c.began).Seconds()
	close(c.end)
	everyone.Wait()
	for _, wrong := range c.wrong {
		t.Error(wrong)
	}
	if status := s.exit(); status != 0 {
		t.Errorf("the first one ended with status %d", status)
	}
	c.compare(s)
	t.Logf("upgrades: %d, with %d sessions, %d messages and %d short connections, %.0f a second", upgrades, c.sessions.Load(), len(c.accepted), c.quick.Load(), rate)
}

// compare looks for messages that were lost or came twice, and for names that were given twice.
func (c *crowd) compare(s *served) {
	c.t.Helper()
	got := map[string]int{}
	for _, m := range s.backend.Messages() {
		if found := tokenField.FindSubmatch(m.Data); found != nil {
			got[string(found[1])]++
		}
	}
	for token, n := range c.accepted {
		if got[token] != n {
			c.t.Errorf("%s was accepted %d times and delivered %d times", token, n, got[token])
		}
	}
	if len(got) != len(c.accepted) {
		c.t.Errorf("%d messages were delivered, %d accepted", len(got), len(c.accepted))
	}
	log := s.log.String()
	ids := map[string]bool{}
	for _, found := range logID.FindAllStringSubmatch(log, -1) {
		if ids[found[1]] {
			c.t.Errorf("two transactions are called %s", found[1])
		}
		ids[found[1]] = true
	}
	for _, bad := range []string{"level=ERROR", "dropped", "panic"} {
		if i := strings.Index(log, bad); i >= 0 {
			c.t.Errorf("the log has %q: %.300s", bad, log[max(0, i-100):])
		}
	}
}

// remembered is what must not be forgotten by an upgrade.
type remembered struct {
	s   *served
	c   *crowd
	old []*talker // sessions of the first process, for what it asks its successors
	due time.Time // when greylisting lets pass
}

// remembers makes the running gatepost know of a sender, and of connections.
func (s *served) remembers(c *crowd) *remembered {
	s.t.Helper()
	r := &remembered{s: s, c: c}
	first := r.enter("127.0.9.1")
	r.rcpt(first, "grey@example.net", "451")
	first.say("QUIT", "221")
	r.due = time.Now().Add(1200 * time.Millisecond)
	for range 4 {
		r.old = append(r.old, r.enter("127.0.9.9")) // four of eight tokens
	}
	return r
}

func (r *remembered) enter(source string) *talker {
	r.s.t.Helper()
	k, err := r.c.from(source)
	if err == nil {
		_, err = k.reply("220")
	}
	if err == nil {
		err = k.say("EHLO client.example.net", "250")
	}
	if err != nil {
		r.s.t.Fatal(err)
	}
	r.s.t.Cleanup(func() { k.conn.Close() })
	return k
}

func (r *remembered) rcpt(k *talker, sender, want string) {
	r.s.t.Helper()
	for _, step := range [][2]string{{"MAIL FROM:<" + sender + ">", "250"}, {"RCPT TO:<alice@example.org>", want}, {"RSET", "250"}} {
		if err := k.say(step[0], step[1]); err != nil {
			r.s.t.Errorf("%s: %v", step[0], err)
		}
	}
}

// check is behind upgrade n.
func (r *remembered) check(n int) {
	r.s.t.Helper()
	if n > 0 {
		return
	}
	time.Sleep(time.Until(r.due))
	again := r.enter("127.0.9.1")
	r.rcpt(again, "grey@example.net", "250") // the new one knows that the sender had come before
	again.say("QUIT", "221")
	r.rcpt(r.old[0], "gray@example.net", "451") // the old one has the new one remember
	for range 4 {
		k := r.enter("127.0.9.9")
		k.say("QUIT", "221")
	}
}

// last is behind the last upgrade.
func (r *remembered) last() {
	r.s.t.Helper()
	k, err := r.c.from("127.0.9.9")
	if err != nil {
		r.s.t.Fatal(err)
	}
	defer k.conn.Close()
	if _, err := k.reply("421"); err != nil { // the ninth: each process has counted some of them
		r.s.t.Errorf("the ninth connection: %v", err)
	}
	time.Sleep(time.Until(r.due.Add(2 * time.Second)))
	r.rcpt(r.old[0], "gray@example.net", "250")
	for _, k := range r.old {
		if err := k.say("QUIT", "221"); err != nil {
			r.s.t.Errorf("a session of the first process: %v", err)
		}
	}
}
