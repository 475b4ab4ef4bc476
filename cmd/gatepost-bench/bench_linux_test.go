package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// standIn, when set in the environment, makes this test binary the proxy that is measured: "relay" passes bytes on,
// "hoard" does so and keeps a copy of all in memory, "refuse" answers that it takes no mail, "swallow" takes mail and
// keeps it.
const standIn = "GATEPOST_BENCH_STAND_IN"

func TestMain(m *testing.M) {
	if kind := os.Getenv(standIn); kind != "" {
		fmt.Fprintln(os.Stderr, "stand-in:", beProxy(kind, os.Args[len(os.Args)-1]))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// beProxy reads a configuration for HAProxy and does what it says until it is stopped.
func beProxy(kind, file string) error {
	if file == "-v" {
		fmt.Println("stand-in 1.0")
		os.Exit(0)
	}
	config, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	find := func(key string) string { return string(regexp.MustCompile(key + ` (\S+)`).FindSubmatch(config)[1]) }
	l, err := net.Listen("tcp", find("bind"))
	if err != nil {
		return err
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			if kind == "refuse" || kind == "swallow" {
				takeMail(client, kind == "refuse")
				return
			}
			server, err := net.Dial("tcp", find("server sink"))
			if err != nil {
				return
			}
			defer server.Close()
			go func() {
				var hoard bytes.Buffer
				if kind == "hoard" {
					io.Copy(io.MultiWriter(server, &hoard), client)
				} else {
					io.Copy(server, client)
				}
				server.(*net.TCPConn).CloseWrite()
			}()
			io.Copy(client, server)
		}()
	}
}

var served atomic.Bool // somebody, by the stand-in

// takeMail answers as the client expects; the first client of a refusing server is lucky, so that it looks ready.
func takeMail(c net.Conn, refuse bool) {
	lucky := refuse && served.CompareAndSwap(false, true)
	in := make([]byte, 64<<10)
	for _, reply := range []string{"220 hi", "250 hi", "250 ok", "250 ok", "354 go on", "250 ok", "221 bye"} {
		if refuse && !lucky && reply == "354 go on" {
			reply = "554 5.7.1 \x1b[1mnot today"
		}
		fmt.Fprintf(c, "%s\r\n", reply)
		if _, err := c.Read(in); err != nil {
			return
		}
	}
}

func testOptions(t *testing.T, kind string, only ...string) options {
	t.Setenv(standIn, kind)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	return options{gatepost: "/nonexistent/gatepost", haproxy: self, rounds: 1, repeats: 1, time: 300 * time.Millisecond, only: only,
		idle: 20, waiters: 20, entries: 100, large: 2 << 20, chunking: true, out: filepath.Join(t.TempDir(), "benchmarks.md")}
}

func TestWholeRun(t *testing.T) {
	o := testOptions(t, "relay", "one", "pipelined", "bulk-signed", idleKey, growthKey)
	var out strings.Builder
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	markdown, err := os.ReadFile(o.out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`(?m)^stand-in 1\.0$`,
		`Gatepost, relaying only: left out, /nonexistent/gatepost is not installed`,
		`(?s)one 4 KiB message a session.*pipelined.*1 MiB.*memory`,
		`(?m)^  direct +[1-9]\d* +\d+ % +1\.00 +\d+\.\d\d +\d+\.\d\d ms +\d+\.\d\d ms +0\.00 ms +–$`,
		`(?m)^  HAProxy, TCP mode +[1-9]\d* +\d+ % +\d\.\d\d +1\.00( +-?\d+\.\d\d ms){3} +\d+\.\d{3}$`,
		`(?m)^  HAProxy, TCP mode +-?\d+ +\d+ +\d+\.\d +\d+\.\d$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if !strings.Contains(string(markdown), "| HAProxy, TCP mode |") {
		t.Errorf("markdown:\n%s", markdown)
	}
	left, err := os.ReadDir(os.TempDir())
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestGrowthIsSeen(t *testing.T) {
	o := testOptions(t, "hoard", "haproxy", growthKey)
	o.large = 32 << 20
	var out strings.Builder
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^  HAProxy, TCP mode +– +– +(\d+)\.`).FindStringSubmatch(out.String())
	if row == nil {
		t.Fatalf("no figure in:\n%s", out.String())
	}
	if grown, err := strconv.Atoi(row[1]); err != nil || grown < 32 || grown > 400 { // the race detector shadows each byte by eight and more
		t.Errorf("a process that keeps 32 MiB has grown by %d MiB", grown)
	}
}

func TestRefusedMailIsReported(t *testing.T) {
	err := run(t.Context(), testOptions(t, "refuse", "haproxy", "one"), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "DATA: 554 5.7.1 ?[1mnot today") {
		t.Errorf("error %v", err)
	}
}

func TestLostMailIsReported(t *testing.T) {
	err := run(t.Context(), testOptions(t, "swallow", "haproxy", "one"), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "were acknowledged, but 0 arrived") {
		t.Errorf("error %v", err)
	}
}

func TestAProxyThatDoesNotStartIsReported(t *testing.T) {
	o := testOptions(t, "relay", "haproxy", "one")
	o.haproxy = "/bin/sh" // which does not know the option -db
	err := run(t.Context(), o, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "it has ended") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("error %v", err)
	}
}

// A shell tells its own processor time, in steps of 10 ms.
func TestProcessorTimeOfAProcess(t *testing.T) {
	p, err := startProcess(t.TempDir(), "/bin/sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; times; echo done; sleep 60")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { p.cmd.Process.Kill(); <-p.exited }()
	for p.running() && !strings.HasSuffix(p.lastWords(), "done") {
		time.Sleep(time.Millisecond)
	}
	var minutes int
	var user, system float64
	if _, err := fmt.Sscanf(p.lastWords(), "%dm%fs %dm%fs", &minutes, &user, &minutes, &system); err != nil {
		t.Fatalf("%q: %v", p.lastWords(), err)
	}
	said := time.Duration((user + system) * float64(time.Second))
	if got, err := p.cpu(); err != nil || got < said-20*time.Millisecond || got < time.Millisecond || got > 2*said+time.Second {
		t.Errorf("%s, %v; the shell says %s of itself", got, err, said)
	}
}

func TestFlags(t *testing.T) {
	for _, bad := range []string{"-rounds 0", "-time 1ms", "-idle 0", "-only sendmail", "extra"} {
		if _, err := parseFlags(strings.Fields(bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	o, err := parseFlags([]string{"-quick", "-only", "direct,full"})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]bool{"direct": true, "full": true, "haproxy": false, "one": true, idleKey: true} {
		if o.wants(key) != want {
			t.Errorf("-only direct,full: %s is wanted: %v", key, !want)
		}
	}
	o.only = []string{"one"}
	for key, want := range map[string]bool{"direct": true, "haproxy": true, "one": true, "ten": false, idleKey: false} {
		if o.wants(key) != want {
			t.Errorf("-only one: %s is wanted: %v", key, !want)
		}
	}
}
