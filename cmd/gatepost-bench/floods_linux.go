package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// floodConnections leaves both processes room below 20,000 descriptors.
	floodConnections = 15_000
	floodHeader      = 100 << 20
	floodRecipients  = 100_000
	tricklers        = 1000
	trickleTime      = 15 * time.Second
	noopClients      = 20
	noopTime         = 5 * time.Second
)

// floods are let loose in this order.
var floods = []flood{
	{fmt.Sprintf("%d connections at once", floodConnections), pourConnections},
	{fmt.Sprintf("endless NOOP from %d clients, never read", noopClients), func(ctx context.Context, f *flooded) (string, error) { return pourNoop(ctx, f, false) }},
	{fmt.Sprintf("endless NOOP from %d clients", noopClients), func(ctx context.Context, f *flooded) (string, error) { return pourNoop(ctx, f, true) }},
	{fmt.Sprintf("a header of %d MiB", floodHeader>>20), pourHeader},
	{fmt.Sprintf("%d recipients", floodRecipients), pourRecipients},
	{fmt.Sprintf("%d messages, one byte a second", tricklers), pourTrickle},
}

// pourConnections opens all at once, and keeps them for a while when they are greeted.
func pourConnections(ctx context.Context, f *flooded) (string, error) {
	conns := make([]net.Conn, floodConnections)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	begun := time.Now()
	greeted, err := each(floodConnections, 500, func(n int) error {
		c, err := f.dial(ctx, n)
		if err != nil {
			return err
		}
		conns[n] = c
		var code [3]byte
		if _, err := io.ReadFull(c, code[:]); err != nil || string(code[:]) != "220" {
			return fmt.Errorf("greeting %q: %w", code, err)
		}
		return nil
	})
	took := time.Since(begun)
	time.Sleep(2 * time.Second)
	return fmt.Sprintf("%d greeted within %.1f s", greeted, took.Seconds()), err
}

// each calls do for 0 to count-1, a number of them at the same time. It returns how many went well, and the first error.
func each(count, parallel int, do func(n int) error) (well int, err error) {
	var running sync.WaitGroup
	var next, done atomic.Int64
	var once sync.Once
	for range parallel {
		running.Go(func() {
			for n := int(next.Add(1)) - 1; n < count; n = int(next.Add(1)) - 1 {
				if failed := do(n); failed != nil {
					once.Do(func() { err = failed })
					continue
				}
				done.Add(1)
			}
		})
	}
	running.Wait()
	return int(done.Load()), err
}

// pourNoop sends without a pause, and comes again when it is sent away.
func pourNoop(ctx context.Context, f *flooded, reads bool) (string, error) {
	limit := time.Now().Add(noopTime)
	piece := []byte(strings.Repeat("NOOP\r\n", 10_000))
	var ended atomic.Int64
	_, err := each(noopClients, noopClients, func(n int) error {
		for time.Now().Before(limit) {
			c, err := f.dial(ctx, n)
			if err != nil {
				return err
			}
			c.SetDeadline(limit)
			var reading sync.WaitGroup
			if reads {
				reading.Go(func() { io.Copy(io.Discard, c) })
			}
			for err == nil {
				_, err = c.Write(piece)
			}
			if e, ok := errors.AsType[net.Error](err); !ok || !e.Timeout() {
				ended.Add(1)
			}
			c.Close()
			reading.Wait()
		}
		return nil
	})
	return fmt.Sprintf("%d sessions ended by limits", ended.Load()), err
}

// transaction is a client that has come as far as RCPT or DATA.
func (f *flooded) transaction(ctx context.Context, n int, data bool) (net.Conn, *bufio.Reader, error) {
	c, err := f.dial(ctx, n)
	if err != nil {
		return nil, nil, err
	}
	lines := []string{"", "EHLO " + clientName, "MAIL FROM:<" + sender + ">"}
	if data {
		lines = append(lines, "RCPT TO:<"+recipient+">", "DATA")
	}
	r := bufio.NewReader(c)
	for _, line := range lines {
		if line != "" {
			fmt.Fprintf(c, "%s\r\n", line)
		}
		if reply, err := readReply(r); err != nil || reply[0] != '2' && reply[0] != '3' {
			c.Close()
			return nil, nil, fmt.Errorf("%s: %q, %w", line, reply, err)
		}
	}
	return c, r, nil
}

// readReply returns the last line of a reply.
func readReply(r *bufio.Reader) (string, error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil || len(line) < 4 || line[3] != '-' {
			return strings.TrimSpace(line), err
		}
	}
}

func pourHeader(ctx context.Context, f *flooded) (string, error) {
	c, r, err := f.transaction(ctx, 0, true)
	if err != nil {
		return "", err
	}
	defer c.Close()
	piece := []byte(strings.Repeat("X-Field: 01234567890123456789012345678901234567890123456789\r\n", 1000))
	for n := 0; n < floodHeader; n += len(piece) {
		if _, err := c.Write(piece); err != nil {
			return "", err
		}
	}
	if _, err := io.WriteString(c, "\r\n.\r\n"); err != nil {
		return "", err
	}
	return readReply(r)
}

func pourRecipients(ctx context.Context, f *flooded) (string, error) {
	c, r, err := f.transaction(ctx, 0, false)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var writing sync.WaitGroup
	writing.Go(func() {
		w := bufio.NewWriter(c)
		for n := range floodRecipients {
			if _, err := fmt.Fprintf(w, "RCPT TO:<user%d@example.org>\r\n", n); err != nil {
				return
			}
		}
		w.Flush()
	})
	defer writing.Wait()
	replies := map[string]int{}
	for range floodRecipients {
		reply, err := readReply(r)
		if err != nil {
			break // the session was ended: what was said last is counted
		}
		replies[reply[:3]]++
	}
	return fmt.Sprintf("%d × 250, %d × 452, %d × 421", replies["250"], replies["452"], replies["421"]), nil
}

func pourTrickle(ctx context.Context, f *flooded) (string, error) {
	limit := time.Now().Add(trickleTime)
	there, err := each(tricklers, tricklers, func(n int) error {
		c, _, err := f.transaction(ctx, n, true)
		if err != nil {
			return err
		}
		defer c.Close()
		for time.Now().Before(limit) {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			time.Sleep(time.Second)
		}
		return nil
	})
	return fmt.Sprintf("%d bear with it for %.0f s", there, trickleTime.Seconds()), err
}
