package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/proxy/store"
	"gatepost/proxy/store/redistest"
)

func shares(s *redistest.Server, prefix string) string {
	return fmt.Sprintf(`store: {path: state, redis: {addresses: [%q], prefix: %s}}`+"\n", s.Address, prefix)
}

// mailExchanger starts a proxy that greylists everybody, for a second, and remembers it in store.
func mailExchanger(t *testing.T, store string) *served {
	t.Helper()
	return startServeWith(t, strings.Replace(settings, "store: {path: state}\n", store, 1)+
		"filters: {greylist: {delay: 1s}}\nrules:\n  - {name: grey, when: 'mail.address != \"\"', then: greylist}\n")
}

// isTaken tells whether a recipient is accepted now.
func (s *served) isTaken(sender string) error {
	c := s.dial()
	defer c.conn.Close()
	c.say("MAIL FROM:<"+sender+">", "250")
	if reply := c.say("RCPT TO:<alice@example.org>", ""); !strings.HasPrefix(reply, "250") {
		return errors.New(reply)
	}
	return nil
}

func TestASiteOfTwoProxies(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	between := redistest.Forward(t, redis.Address)
	mx1 := mailExchanger(t, shares(&redistest.Server{Address: between.Address}, "site"))
	mx2 := mailExchanger(t, shares(redis, "site"))
	mx1.recipient("nina@new.test", "451")
	redistest.Eventually(t, patience, func() error { return mx2.isTaken("nina@new.test") })
	if text, status := mx1.command("store", "status"); status != 0 || !strings.HasPrefix(text, "the shared store is used\n") {
		t.Errorf("%d %s", status, text)
	}

	between.Stall()
	if err := mx1.isTaken("olga@other.test"); err == nil || !strings.HasPrefix(err.Error(), "451 4.7.1") {
		t.Errorf("in an outage a new sender hears %v", err)
	}
	mx1.awaitLog("this proxy decides by its own memory")
	redistest.Eventually(t, patience, func() error { return mx1.isTaken("olga@other.test") })
	if text, status := mx1.command("store", "status"); status != 0 || !strings.HasPrefix(text, "the shared store cannot be used since ") {
		t.Errorf("%d %s", status, text)
	}
	between.Heal()
	mx1.awaitLog("it is used again")
	redistest.Eventually(t, patience, func() error { return mx2.isTaken("olga@other.test") })
}

// Where operators look, they see that the store is away, and that it is back.
func TestASiteSeesThatItsStoreIsAway(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	s := startServeWith(t, settingsWithoutStore()+shares(redis, "seen")+"admin: 127.0.0.1:0\nfilters: {greylist: {delay: 1s}}\nrules:\n  - {name: grey, when: 'mail.address != \"\"', then: greylist}\n")
	shows := func(path, want string) {
		t.Helper()
		if status, text := s.page("http", path, ""); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d, without %q:\n%.2000s", path, status, want, text)
		}
	}
	s.recipient("nina@new.test", "451")
	shows("/metrics", "\ngatepost_shared_store_up 1\n")
	redis.Kill()
	s.recipient("olga@other.test", "451")
	s.awaitLog("this proxy decides by its own memory")
	const away = "the shared store cannot be used since "
	shows("/metrics", "\ngatepost_shared_store_up 0\n")
	shows("/ready", away)
	shows("/", away)
	redistest.Eventually(t, patience, func() error { return s.isTaken("nina@new.test") })
	redis.Restart()
	s.awaitLog("it is used again")
	shows("/metrics", "\ngatepost_shared_store_up 1\n")
	shows("/ready", "ready\n")
}

// A client that has not read the reply may try again elsewhere.
func TestASiteSuppressesADuplicate(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	settings := settingsWithoutStore() + shares(redis, "dup") + "admin: off\nduplicates: suppress\nrules: []\n"
	mx1, mx2 := startServeWith(t, settings), startServeWith(t, settings)
	send := func(s *served) string {
		c := s.dial()
		defer c.conn.Close()
		c.say("MAIL FROM:<nina@new.test>", "250")
		c.say("RCPT TO:<alice@example.org>", "250")
		c.say("DATA", "354")
		return c.say("Subject: x\r\n\r\ny\r\n.", "250")
	}
	if reply := send(mx1); strings.Contains(reply, "delivered before") {
		t.Fatal(reply)
	}
	redistest.Eventually(t, patience, func() error {
		if found := redis.Must("KEYS", "dup2:delivery:*"); found == "[]" {
			return errors.New("the store has not heard of the delivery")
		}
		return nil
	})
	if reply := send(mx2); !strings.Contains(reply, "delivered before") {
		t.Errorf("at the other proxy: %s", reply)
	}
}

// While a release follows another one, both work on the shared store, and so do the sessions of both.
func TestASiteIsUpgraded(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	mx1, mx2 := mailExchanger(t, shares(redis, "site")), mailExchanger(t, shares(redis, "site"))
	mx1.recipient("nina@new.test", "451")
	old := mx1.dial()
	if output, status := mx1.command("upgrade"); status != 0 || !strings.Contains(output, "serves now") {
		t.Fatalf("exit status %d: %s", status, output)
	}
	// What the one before has counted and what its last sessions count is known to the one after and to the other proxy.
	old.say("MAIL FROM:<olga@other.test>", "250")
	old.say("RCPT TO:<alice@example.org>", "451")
	redistest.Eventually(t, patience, func() error { return mx1.isTaken("nina@new.test") })
	redistest.Eventually(t, patience, func() error { return mx2.isTaken("olga@other.test") })
	// And the other way round: the last sessions see what the new one has learned.
	mx1.recipient("paula@third.test", "451")
	redistest.Eventually(t, patience, func() error {
		old.say("RSET", "250")
		old.say("MAIL FROM:<paula@third.test>", "250")
		if reply := old.say("RCPT TO:<alice@example.org>", ""); !strings.HasPrefix(reply, "250") {
			return errors.New(reply)
		}
		return nil
	})
	old.say("QUIT", "221")
	if status := mx1.exit(); status != 0 {
		t.Errorf("the old one ended with status %d", status)
	}
	for _, mx := range []*served{mx1, mx2} {
		if text, status := mx.command("store", "status"); status != 0 || !strings.HasPrefix(text, "the shared store is used\n") {
			t.Errorf("%d %s", status, text)
		}
		for _, sender := range []string{"nina@new.test", "olga@other.test", "paula@third.test"} {
			if err := mx.isTaken(sender); err != nil {
				t.Errorf("%s: %v", sender, err)
			}
		}
	}
}

func settingsWithoutStore() string {
	return strings.Replace(settingsWithout("admin"), "store: {path: state}\n", "", 1)
}

func TestAStoreIsCopiedWhileBothRun(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	old := mailExchanger(t, "store: {path: state}\n")
	old.recipient("nina@new.test", "451")
	redistest.Eventually(t, patience, func() error { return old.isTaken("nina@new.test") })
	// The file names the shared store already; the proxy that runs does not use it before its next start.
	old.configure(strings.Replace(settings, "store: {path: state}\n", shares(redis, "gp"), 1))
	if text, status := old.command("store", "copy", "--from", "embedded", "--to", "shared"); status != 0 || !strings.Contains(text, "Marks copied: ") {
		t.Fatalf("%d %s", status, text)
	}
	mx2 := mailExchanger(t, shares(redis, "gp"))
	if err := mx2.isTaken("nina@new.test"); err != nil {
		t.Errorf("who was known to the old store hears %v", err)
	}
	// And back, into the store of a proxy that runs with it.
	mx2.recipient("olga@other.test", "451")
	if text, status := old.command("store", "copy", "--from", "shared", "--to", "embedded"); status != 0 {
		t.Fatalf("%d %s", status, text)
	}
	if text, status := old.command("greylist", "show", "olga@other.test"); status != 0 || !strings.Contains(text, "attempts  1") {
		t.Errorf("%d %s", status, text)
	}
	if text, status := old.command("store", "copy", "--from", "shared", "--to", "shared"); status == 0 || !strings.Contains(text, "--from embedded --to shared") {
		t.Errorf("%d %s", status, text)
	}
}

// An interrupted copy is started again; what the target has learned meanwhile stays.
func TestAnInterruptedCopy(t *testing.T) {
	redis := redistest.Start(t, redistest.Options{})
	ctx, c := t.Context(), store.Defaults()
	c.Path, c.Redis.Addresses = t.TempDir(), []string{redis.Address}
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = fmt.Sprintf("n:192.0.2.0/24|user%d@example.org", i)
	}
	keys[7] = "n:\xff\x00}{|" + strings.Repeat("x", 600)
	filled := func(do func(s *store.Store)) {
		t.Helper()
		s, err := store.Open(c, filters.SystemClock{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		do(s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var before []filters.Mark
	filled(func(s *store.Store) {
		if err := s.Pass(ctx, "greylist", keys, time.Hour); err != nil {
			t.Fatal(err)
		}
		before, _ = s.Peek(ctx, "greylist", keys)
	})

	broken, cancel := context.WithCancel(ctx)
	source, err := openEnd(ctx, c, "embedded")
	if err != nil {
		t.Fatal(err)
	}
	target, err := openEnd(ctx, c, "shared")
	if err != nil {
		t.Fatal(err)
	}
	copied, err := copyMarks(broken, source, target, func(int) { cancel() })
	if !errors.Is(err, context.Canceled) || copied == 0 || copied == len(keys) {
		t.Fatalf("%d copied, %v", copied, err)
	}
	if err := errors.Join(source.close(), target.close()); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	if err := copyStore(ctx, c, "embedded", "shared", &said); err != nil || said.String() != "Marks copied: 1000\nStandings copied: 0\n" {
		t.Fatalf("%q, %v", said.String(), err)
	}
	c.Path = t.TempDir()
	if err := copyStore(ctx, c, "shared", "embedded", io.Discard); err != nil {
		t.Fatal(err)
	}
	filled(func(s *store.Store) {
		after, err := s.Peek(ctx, "greylist", keys)
		if err != nil {
			t.Fatal(err)
		}
		for i := range after {
			if after[i] != before[i] {
				t.Errorf("%q: %v became %v", keys[i], before[i], after[i])
			}
		}
	})
	c.Redis.Addresses = []string{unusedAddress(t)}
	if err := copyStore(ctx, c, "embedded", "shared", io.Discard); err == nil || !strings.HasPrefix(err.Error(), "the shared store: ") {
		t.Errorf("%v", err)
	}
}

func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
