package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"gatepost/cmd/gatepost-bench/load"
)

// peer is a way to the sink.
type peer struct {
	key    string
	title  string
	binary func(options) string // nil: none is needed
	// command writes the configuration of a proxy that listens on addr into folder and returns the arguments that run it.
	command func(b *bench, folder string, addr netip.AddrPort) ([]string, error)
	version []string // arguments that make the binary tell its version
	// only names the scenarios that the peer is for; none: it is for all, and for measurements of memory.
	only []string
	// ready tells whether a started peer works; nil: it has to take a message.
	ready func(context.Context, *running) error
}

// peers are measured as far as they are installed.
var peers = []peer{
	{key: directKey, title: "direct"},
	{key: haproxyKey, title: "HAProxy, TCP mode", binary: func(o options) string { return o.haproxy }, command: haproxyCommand, version: []string{"-v"}},
	gatepost(relayKey, "Gatepost, relaying only", relayCommand),
	gatepost(freshKey, "Gatepost, relaying without reuse", freshCommand),
	gatepostFor(unsigned, eagerKey, "Gatepost, relaying, eager", eagerCommand),
	gatepostFor(unsigned, eagerFreshKey, "Gatepost, relaying without reuse, eager", eagerFreshCommand),
	gatepostFor([]string{"pipelined"}, plainKey, "Gatepost, relaying, eager, sink without CHUNKING", plainCommand),
	gatepost(fullKey, "Gatepost, all filters", fullCommand),
	gatepostFor([]string{"one", "signed"}, eagerFullKey, "Gatepost, all filters, eager", eagerFullCommand),
	gatepostFor([]string{"one"}, silentKey, "Gatepost, all filters, without the journal", silentCommand),
	{key: "nginx", title: "nginx mail proxy, no filters", binary: func(o options) string { return "nginx" }, command: nginxCommand, version: []string{"-V"}},
}

// unsigned are the scenarios that a peer without filters is for.
var unsigned = []string{"one", "ten", "pipelined", "bulk", "alone"}

// Direct and HAProxy are what the others are compared with.
const (
	directKey     = "direct"
	haproxyKey    = "haproxy"
	relayKey      = "relay"
	freshKey      = "fresh"
	eagerKey      = "eager"
	eagerFreshKey = "eager-fresh"
	plainKey      = "no-chunking"
	fullKey       = "full"
	eagerFullKey  = "eager-full"
	silentKey     = "no-journal"
)

type commandFunc = func(b *bench, folder string, addr netip.AddrPort) ([]string, error)

// gatepost is the program that is measured, with a configuration.
func gatepost(key, title string, command commandFunc) peer {
	return peer{key: key, title: title, binary: func(o options) string { return o.gatepost }, command: command, version: []string{"--version"}}
}

// gatepostFor is gatepost in some scenarios only.
func gatepostFor(scenarios []string, key, title string, command commandFunc) peer {
	p := gatepost(key, title, command)
	p.only = scenarios
	return p
}

// running is a peer that takes mail.
type running struct {
	peer
	addr    netip.AddrPort
	process *process // nil for direct
}

func (r *running) stop() {
	if r.process != nil {
		r.process.stop()
	}
}

// errMissing tells that a peer is not installed.
var errMissing = errors.New("is not installed")

// start runs a peer and waits until it takes mail. The caller stops it.
func (b *bench) start(ctx context.Context, p peer) (*running, error) {
	if p.binary == nil {
		return &running{peer: p, addr: b.sink.Addr()}, nil
	}
	binary, err := findBinary(p.binary(b.options))
	if err != nil {
		return nil, fmt.Errorf("%s %w", p.binary(b.options), errMissing)
	}
	b.started++
	folder := filepath.Join(b.folder, p.key+"-"+strconv.Itoa(b.started))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	addr, err := freePort()
	if err != nil {
		return nil, err
	}
	args, err := p.command(b, folder, addr)
	if err != nil {
		return nil, err
	}
	r := &running{peer: p, addr: addr}
	if r.process, err = startProcess(folder, binary, args...); err != nil {
		return nil, err
	}
	if err := b.awaitMail(ctx, r); err != nil {
		r.stop()
		return nil, fmt.Errorf("%s does not take mail: %w\nIts last words:\n%s", p.title, err, r.process.lastWords())
	}
	return r, nil
}

// findBinary returns the path of a program, also of one that only root's PATH has.
func findBinary(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && !strings.Contains(name, "/") {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// startPatience is how long a peer may take to start.
const startPatience = 20 * time.Second

// awaitMail sends messages until one is taken: a proxy has to start, and Gatepost to see that the sink is no open relay.
func (b *bench) awaitMail(ctx context.Context, r *running) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	ready := r.ready
	if ready == nil {
		ready = b.takesMail
	}
	for {
		err := ready(ctx, r)
		if err == nil {
			return nil
		}
		if !r.process.running() {
			return errors.New("it has ended")
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// takesMail sends one message.
func (b *bench) takesMail(ctx context.Context, r *running) error {
	result, err := load.Run(ctx, load.Options{Addr: r.addr, Sources: b.sources[:1], Script: b.script(scenarios[0]), Parallel: 1,
		Duration: startPatience, Sessions: 1})
	if err == nil && result.Failures != nil {
		err = errors.New(result.Failures.String())
	}
	return err
}

// tellVersion is the first line that a peer's binary says about itself; empty if there is none.
func (b *bench) tellVersion(p peer) string {
	if p.binary == nil {
		return ""
	}
	binary, err := findBinary(p.binary(b.options))
	if err != nil {
		return ""
	}
	out, err := exec.Command(binary, p.version...).Output()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
