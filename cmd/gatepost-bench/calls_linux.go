package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gatepost/cmd/gatepost-bench/load"
)

// callsKey is what -only calls the count of system calls.
const callsKey = "calls"

// calls counts the system calls of the proxy's process for each message, with strace.
func (b *bench) calls(ctx context.Context) error {
	if !b.wants(callsKey) || !b.hasGatepost() {
		return nil
	}
	strace, err := findBinary("strace")
	if err != nil {
		b.report.missing = append(b.report.missing, "system calls: left out, strace is not installed")
		return nil
	}
	for _, c := range []struct {
		command commandFunc
		title   string
		goal    goal
	}{{relayCommand, "relaying with reuse", goal{36, atMost}}, {eagerCommand, "relaying with reuse, eager", goal{}}, {freshCommand, "relaying without reuse", goal{}}, {fullCommand, "all filters", goal{}}} {
		count, err := b.countCalls(ctx, strace, gatepost("calls", "Gatepost, "+c.title, c.command))
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			b.fail("system calls: %v", err)
			continue
		}
		b.found(finding{title: "system calls of a message, one a session, " + c.title, figures: []float64{count}, unit: "calls", digits: 1, goal: c.goal})
	}
	fmt.Fprintln(os.Stderr, "system calls: done")
	return nil
}

func (b *bench) countCalls(ctx context.Context, strace string, p peer) (float64, error) {
	r, err := b.start(ctx, p)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	if err := b.burst(ctx, r); err != nil {
		return 0, err
	}
	b.started++
	folder := filepath.Join(b.folder, "strace-"+strconv.Itoa(b.started))
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return 0, err
	}
	summary := filepath.Join(folder, "summary")
	tracer, err := startProcess(folder, strace, "-c", "-f", "-q", "-o", summary, "-p", strconv.Itoa(r.process.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	defer tracer.stop()
	if err := b.attached(r.process.cmd.Process.Pid); err != nil {
		return 0, fmt.Errorf("%w: %s", err, tracer.lastWords())
	}
	s := scenarios[0]
	result, err := load.Run(ctx, load.Options{Addr: r.addr, Sources: b.sources, Script: b.script(s), Parallel: s.parallel, Duration: b.time, Drain: time.Minute})
	if err != nil {
		return 0, err
	}
	if result.Failures != nil {
		return 0, errors.New(result.Failures.String())
	}
	tracer.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-tracer.exited:
	case <-time.After(startPatience):
		return 0, errors.New("strace does not end")
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return 0, err
	}
	total, err := totalCalls(text)
	return total / float64(result.All), err
}

// attached waits until a process is traced.
func (b *bench) attached(pid int) error {
	for range 500 {
		status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if err != nil {
			return err
		}
		if !bytes.Contains(status, []byte("TracerPid:\t0\n")) {
			time.Sleep(100 * time.Millisecond) // its other threads
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("strace does not attach")
}

// totalCalls reads the summary of strace -c: of its line "100.00 0.5 7 7000 12 total" the fourth word.
func totalCalls(summary []byte) (float64, error) {
	lines := bufio.NewScanner(bytes.NewReader(summary))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) >= 5 && words[len(words)-1] == "total" {
			return strconv.ParseFloat(words[3], 64)
		}
	}
	return 0, errors.New("the summary of strace has no total")
}
