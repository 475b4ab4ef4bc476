package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatepost/proxy/handover"
	"gatepost/proxy/sockets"
)

// A successor that does not serve leaves everything as it was, whatever is wrong with it; and the command says what.
func TestUpgradeThatFails(t *testing.T) {
	s := startServe(t, "rules: []\njournal: {path: journal}\nconfine: off\n") // it starts programs of /bin
	open := s.dial()
	script := func(name, text string) string {
		path := filepath.Join(s.folder, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, binary, config, want string
	}{
		{"no such file", filepath.Join(s.folder, "missing"), "", "no such file or directory"},
		{"no program", s.file, "", "permission denied"},
		{"it ends", script("ends", "exit 3"), "", "ended before it served: exit status 3"},
		{"it crashes", script("crashes", "kill -SEGV $$"), "", "ended before it served: signal: segmentation fault"},
		{"a mistake in the configuration", "", "limits: {errors: none}\n", `limits.errors: "none" is not a whole number`},
		{"an address that somebody else has", "", "milter:\n  - {address: 'inet:" + s.backend.Address() + "'}\n", "address already in use"},
		{"a certificate that is missing", "", "listen:\n  - {address: '127.0.0.1:0', certificate: missing.pem}\n", "missing.pem: no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := string(good)
			if strings.HasPrefix(c.config, "listen") {
				text = text[:strings.Index(text, "listen:")]
			}
			write(t, s.file, text+c.config)
			// The command reads the configuration as well, for the place of the socket: it gets one of its own.
			command := filepath.Join(s.folder, "command.yaml")
			write(t, command, string(good))
			args := []string{"upgrade"}
			if c.binary != "" {
				args = append(args, "--binary", c.binary)
			}
			output, status := (&served{t: t, file: command}).command(args...)
			if status != 1 || !strings.Contains(output, c.want) {
				t.Errorf("exit status %d, without %q: %s", status, c.want, output)
			}
			write(t, s.file, string(good))
			s.recipient("bob@example.net", "250")
		})
	}
	open.say("MAIL FROM:<bob@example.net>", "250")
	if output, status := s.command("bypass", "--off"); status != 0 {
		t.Errorf("commands are not answered any more: %s", output)
	}
	if output, status := s.command("upgrade"); status != 0 {
		t.Errorf("a good one is refused: %s", output)
	}
}

// halfway is a successor that gets the state and is killed before it has opened it.
func halfway() {
	_, conn, err := sockets.Given()
	if err != nil || conn == nil {
		os.Exit(2)
	}
	link := handover.NewLink(conn, slog.Default())
	go link.Run(context.Background())
	var left legacy
	if err := link.Call(context.Background(), "release", introduction{Format: handoverFormat, PID: os.Getpid()}, &left); err != nil {
		os.Exit(2)
	}
	syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

func TestSuccessorKilledInTheMiddle(t *testing.T) {
	s := startServe(t, "confine: off\njournal: {path: journal}\nrules:\n  - {name: grey, when: 'mail.address == \"grey@example.net\"', then: greylist}\nfilters: {greylist: {delay: 1s, window: 1h, keep: 1d}}\n")
	open := s.dial()
	s.recipient("grey@example.net", "451")
	due := time.Now().Add(1200 * time.Millisecond)
	binary := filepath.Join(s.folder, "halfway")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\nexec gatepost-halfway\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if output, status := s.command("upgrade", "--binary", binary); status != 1 || !strings.Contains(output, "ended before it served: signal: killed") {
			t.Errorf("exit status %d: %s", status, output)
		}
		s.awaitLog("it gets store, journal and quarantine")
		s.recipient("bob@example.net", "250")
	}
	time.Sleep(time.Until(due))
	open.say("MAIL FROM:<grey@example.net>", "250")
	open.say("RCPT TO:<alice@example.org>", "250") // the state is back
	if output, status := s.command("greylist", "list"); status != 0 || !strings.Contains(output, "127.0.0") {
		t.Errorf("commands are not answered any more: %s", output)
	}
	if output, status := s.command("upgrade"); status != 0 {
		t.Errorf("the next one: %s", output)
	}
	s.recipient("grey@example.net", "250")
	open.say("QUIT", "221")
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}

// TestOldOneKilledWhileDraining leaves the successor alone with everything.
func TestOldOneKilledWhileDraining(t *testing.T) {
	s := startServe(t, "limits: {connections_per_client: 3}\njournal: {path: journal}\nrules: []\n")
	s.dial()
	s.dial()
	if output, status := s.command("upgrade"); status != 0 {
		t.Fatal(output)
	}
	third := s.dial()
	k, err := (&crowd{t: t, address: s.address}).from("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer k.conn.Close()
	if _, err := k.reply("421 4.7.0"); err != nil {
		t.Errorf("the sessions of the old one do not count: %v", err)
	}
	if err := s.process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.ended
	s.ended = nil // the log goes on
	s.awaitLog("the gatepost that ran before has ended")
	s.dial() // they count no more
	third.say("MAIL FROM:<bob@example.net>", "250")
	if output, status := s.command("bypass", "--off"); status != 0 {
		t.Error(output)
	}
}

// TestUpgradeBySignal is what systemd or an operator without the command does.
func TestUpgradeBySignal(t *testing.T) {
	s := startServe(t, "rules: []\n")
	s.signal(syscall.SIGUSR2)
	s.awaitLog("the successor serves")
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	s.recipient("bob@example.net", "250")
}
