package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gatepost/cmd/gatepost-bench/load"
)

// Keys of what is measured of reloads and of the start, for -only.
const (
	reloadKey = "reload"
	startKey  = "start"
)

// operations measures what the operator waits for.
func (b *bench) operations(ctx context.Context) error {
	if !b.hasGatepost() {
		return nil
	}
	if b.wants(reloadKey) {
		for _, kind := range []struct {
			title        string
			rules, lines int
			goal         float64
		}{{"reload of 1,000 rules", 1000, 0, 100}, {"reload of 10,000 rules", 10_000, 0, 300}, {"reload of a list of 10,000 lines", 10, 10_000, 100}} {
			times, err := b.reloads(ctx, kind.rules, kind.lines)
			if err != nil {
				if ctx.Err() != nil {
					return err
				}
				b.fail("%s: %v", kind.title, err)
			}
			b.found(finding{title: kind.title, figures: times, unit: "ms", digits: 1, goal: goal{kind.goal, atMost}})
		}
		fmt.Fprintln(os.Stderr, "reloads: done")
	}
	if b.wants(startKey) {
		return b.starts(ctx)
	}
	return nil
}

// manyRules are rules that never match and all read the same facts, and one that reads a list where lines is not 0.
func manyRules(folder string, rules, lines int) (string, error) {
	var b strings.Builder
	b.WriteString(relayFilters + "rules:\n")
	for i := range rules {
		fmt.Fprintf(&b, "  - {name: rule-%d, when: client.port == %d and helo.name == \"host-%d.example.com\", then: reject, reply: 550 5.7.1 Not you}\n", i, 100_000+i, i)
	}
	if lines == 0 {
		return b.String(), nil
	}
	fmt.Fprintf(&b, "  - {name: listed, when: 'in_list(client.ip, \"networks\")', then: reject, reply: 550 5.7.1 Not you}\n")
	if err := os.MkdirAll(filepath.Join(folder, "lists"), 0o700); err != nil {
		return "", err
	}
	return b.String(), os.WriteFile(filepath.Join(folder, "lists", "networks"), networkList(lines), 0o600)
}

// networkList is a list of so many networks, none of which has a client in it.
func networkList(lines int) []byte {
	var b bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&b, "16.%d.%d.0/%d\n", i>>8&255, i&255, 24+i%8)
	}
	return b.Bytes()
}

// inForce is what the log says when a reload is done.
const inForce = "the new configuration is in force"

// reloads measures reloads from the signal to the line in the log.
func (b *bench) reloads(ctx context.Context, rules, lines int) ([]float64, error) {
	r, err := b.start(ctx, gatepost("reload", "Gatepost, reloading", func(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
		text, err := manyRules(folder, rules, lines)
		if err != nil {
			return nil, err
		}
		return writeGatepost(b.settings(folder, addr), text)
	}))
	if err != nil {
		return nil, err
	}
	defer r.stop()
	var times []float64
	for done := range b.rounds {
		begun := time.Now()
		if err := r.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			return times, err
		}
		for {
			log, err := os.ReadFile(r.process.log)
			if err != nil {
				return times, err
			}
			if bytes.Count(log, []byte(inForce)) > done {
				break
			}
			if time.Since(begun) > startPatience || ctx.Err() != nil {
				return times, errors.New("no reload")
			}
			time.Sleep(time.Millisecond)
		}
		times = append(times, float64(time.Since(begun).Microseconds())/1000)
	}
	return times, nil
}

// starts measures the time from the start of the process to the first greeting.
func (b *bench) starts(ctx context.Context) error {
	folder := filepath.Join(b.folder, "start")
	if err := b.fill(ctx, filepath.Join(folder, "state"), 0, b.entries); err != nil {
		return err
	}
	addr, err := freePort()
	if err != nil {
		return err
	}
	args, err := writeGatepost(b.settings(folder, addr), greylistRules)
	if err != nil {
		return err
	}
	binary, err := findBinary(b.gatepost)
	if err != nil {
		return err
	}
	var times []float64
	for range b.rounds {
		took, err := b.startOnce(ctx, folder, binary, args, addr)
		if err != nil {
			b.fail("start: %v", err)
			break
		}
		times = append(times, float64(took.Microseconds())/1000)
	}
	b.found(finding{title: fmt.Sprintf("start to the first greeting with %d greylist entries on disk", b.entries), figures: times, unit: "ms", digits: 1, goal: goal{150, atMost}})
	fmt.Fprintln(os.Stderr, "starts: done")
	return ctx.Err()
}

func (b *bench) startOnce(ctx context.Context, folder, binary string, args []string, addr netip.AddrPort) (time.Duration, error) {
	begun := time.Now()
	p, err := startProcess(folder, binary, args...)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	for time.Since(begun) < startPatience && ctx.Err() == nil && p.running() {
		c, err := load.Dial(ctx, b.sources[0], addr)
		if err == nil {
			err = c.Expect("the connection", 220)
			c.Close()
		}
		if err == nil {
			return time.Since(begun), nil
		}
		var refused *net.OpError
		if !errors.As(err, &refused) {
			return 0, err
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("no greeting; the last words:\n%s", p.lastWords())
}
