package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"gatepost/cmd/gatepost-bench/load"
)

// flood is too much of something. It returns what became of it.
type flood struct {
	title string
	pour  func(ctx context.Context, f *flooded) (outcome string, err error)
}

// flooded is the proxy that suffers it: a process of its own with all filters. The clients are all in this one.
type flooded struct {
	*bench
	addr netip.AddrPort
}

// floodConfig has the limits of a fresh installation but for what floods from one machine would meet first.
var floodConfig = template.Must(template.New("gatepost.yaml").Parse(`
hostname: mx.example.org
domains: [example.org]
listen:
  - address: "{{.Listen}}"
backend:
  address: "{{.Sink}}"
  client_address: xclient
resolver: {servers: ["{{.Resolver}}"]}
store: {path: "{{.Folder}}/state"}
limits:
  connections: {{.Connections}}
  connections_per_client: 0
`))

func floodCommand(b *bench, folder string, addr netip.AddrPort) ([]string, error) {
	file := filepath.Join(folder, "gatepost.yaml")
	s := b.settings(folder, addr)
	s.Connections = floodConnections + 500
	return []string{"serve", "-c", file}, writeConfig(file, floodConfig, s, fullRules)
}

// runFloods lets every flood loose on a fresh process and writes what it did, to others and to memory.
func (b *bench) runFloods(ctx context.Context, out io.Writer) error {
	gatepost := peer{key: "flood", title: "Gatepost, all filters", binary: func(o options) string { return o.gatepost }, command: floodCommand}
	result := table{title: "floods", header: []string{"flood", "what became of it", "took", "memory grew by", "others: messages", "half within", "all within"}}
	for _, f := range floods {
		row, err := b.suffer(ctx, gatepost, f)
		if err != nil {
			return fmt.Errorf("%s: %w", f.title, err)
		}
		result.rows = append(result.rows, row)
		fmt.Fprintf(os.Stderr, "%s: done\n", f.title)
	}
	fmt.Fprintln(out, strings.Join(describeMachine(), "\n"))
	fmt.Fprint(out, result.text())
	if b.out == "" {
		return nil
	}
	return os.WriteFile(b.out, []byte(b.floodPage(result, b.tellVersion(peer{binary: gatepost.binary, version: []string{"--version"}}))), 0o644)
}

func (b *bench) floodPage(t table, version string) string {
	var page strings.Builder
	page.WriteString("# Floods\n\nWritten by `make flood`: each flood meets a fresh process with all filters and the limits of a fresh installation\n" +
		"(connections: " + fmt.Sprint(floodConnections+500) + ", connections_per_client: 0), while another client hands in one message after the other. Clients and\n" +
		"mail server are in another process, on the same machine.\n\n")
	for _, line := range append(describeMachine(), version) {
		page.WriteString("- " + line + "\n")
	}
	page.WriteString("- memory: how much the process took at most (VmHWM) beyond what it took before\n- others: from connect to the 250 for the message\n\n")
	page.WriteString(t.markdown())
	return page.String()
}

func (b *bench) suffer(ctx context.Context, p peer, f flood) (row []string, err error) {
	r, err := b.start(ctx, p)
	if err != nil {
		return nil, err
	}
	defer r.stop()
	before, err := r.process.settle()
	if err != nil {
		return nil, err
	}
	if err := r.process.resetPeak(); err != nil {
		return nil, err
	}
	others := b.beginOthers(ctx, r.addr)
	begun := time.Now()
	outcome, err := f.pour(ctx, &flooded{b, r.addr})
	took := time.Since(begun)
	times, otherErr := others.end()
	if err := errors.Join(err, otherErr); err != nil {
		return nil, fmt.Errorf("%w; its last words:\n%s", err, r.process.lastWords())
	}
	peak, err := r.process.peak()
	if err != nil {
		return nil, err
	}
	if len(times) == 0 {
		return nil, errors.New("nobody else was served")
	}
	slices.Sort(times)
	ms := func(d time.Duration) string { return fmt.Sprintf("%d ms", d.Milliseconds()) }
	return []string{f.title, outcome, fmt.Sprintf("%.1f s", took.Seconds()), fmt.Sprintf("%.1f MiB", float64(peak-before)/(1<<20)),
		fmt.Sprint(len(times)), ms(times[len(times)/2]), ms(times[len(times)-1])}, nil
}

// others is a client that hands in one message after the other.
type others struct {
	stop  context.CancelFunc
	done  chan struct{}
	times []time.Duration // after done
	err   error
}

func (b *bench) beginOthers(ctx context.Context, addr netip.AddrPort) *others {
	ctx, stop := context.WithCancel(ctx)
	o := &others{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		for ctx.Err() == nil && o.err == nil {
			begun := time.Now()
			o.err = b.handIn(addr)
			o.times = append(o.times, time.Since(begun))
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return o
}

func (o *others) end() ([]time.Duration, error) {
	o.stop()
	<-o.done
	if o.err != nil {
		return nil, fmt.Errorf("another client: %w", o.err)
	}
	return o.times, nil
}

// handIn is a session with one message.
func (b *bench) handIn(addr netip.AddrPort) error {
	c, err := load.Dial(context.Background(), b.sources[0], addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Expect("the connection", 220); err != nil {
		return err
	}
	for _, step := range []struct {
		line string
		code int
	}{
		{"EHLO " + clientName, 250}, {"MAIL FROM:<" + sender + ">", 250}, {"RCPT TO:<" + recipient + ">", 250}, {"DATA", 354},
		{"Subject: x\r\nFrom: <" + sender + ">\r\n\r\nx\r\n.", 250}, {"QUIT", 221},
	} {
		if err := c.Command(step.line, step.code); err != nil {
			return err
		}
	}
	return nil
}

// dial is a connection without a greeting.
func (f *flooded) dial(ctx context.Context, n int) (net.Conn, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.sources[1+n%(len(f.sources)-1)], 0)), KeepAlive: -1}
	c, err := d.DialContext(ctx, "tcp", f.addr.String())
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(2 * time.Minute))
}
