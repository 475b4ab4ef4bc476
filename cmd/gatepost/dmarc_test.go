package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"log/slog"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatepost/filters"
	"gatepost/filters/all"
	"gatepost/filters/filtertest"
	"gatepost/proxy/config"
	"gatepost/proxy/control"
	"gatepost/proxy/store"
)

const reportsConfig = `
hostname: mx.example.org
domains: [example.org]
backend: 127.0.0.1:10025
filters:
  dmarc:
    reports: {enabled: true, email: dmarc@example.org, org_name: "Example, Inc."}
rules: []
`

const reportsZone = `
_dmarc.example.com                        TXT v=DMARC1; p=reject; aspf=s; rua=mailto:dmarc@example.com!1m,mailto:x@example.net
example.com                               TXT v=spf1 ip4:192.0.2.1 -all
_dmarc.example.net                        TXT v=DMARC1; p=none; rua=mailto:dmarc@example.net!100,mailto:all@reports.example
*._report._dmarc.reports.example          TXT v=DMARC1
`

// counting is a running proxy as far as the call "dmarc.reports" needs one, which has counted some messages.
func counting(t *testing.T, deliveries ...evaluation) (socket string) {
	t.Helper()
	dir := t.TempDir()
	c, problems := config.Parse(filepath.Join(dir, "gatepost.yaml"), []byte(reportsConfig), all.Specs())
	if c == nil {
		t.Fatal(problems)
	}
	clock, log := filtertest.NewClock(), slog.New(slog.DiscardHandler)
	c.Store.Path = filepath.Join(dir, "state")
	memory, err := store.Open(c.Store, clock, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := memory.Close(); err != nil {
			t.Error(err)
		}
	})
	env := filters.Env{Hostname: c.Hostname, Domains: c.Domains, Resolver: filtertest.MustParseZone(reportsZone), Store: memory,
		Clock: clock, Log: log}
	engine, problems := c.Compile(all.Specs(), env)
	if engine == nil {
		t.Fatal(problems)
	}
	counted, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); engine.Run(counted) }()
	for i := range deliveries {
		e := &deliveries[i]
		e.helo, e.recipients = "mail.example.com", []string{"joe@example.org"}
		path := filepath.Join(dir, "message")
		if err := os.WriteFile(path, []byte(e.message), 0o600); err != nil {
			t.Fatal(err)
		}
		e.message = path
		if _, err := e.judge(t.Context(), c, engine, clock); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	<-done

	h := &house{force: inForce{engine: engine}, log: env.Log}
	socket = filepath.Join(dir, control.Name)
	server, err := control.Listen(socket, nil, env.Log)
	if err != nil {
		t.Fatal(err)
	}
	h.control = server
	h.handleCommands()
	serving, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(serving); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { end(); <-ended })
	return socket
}

func deliveries() []evaluation {
	return []evaluation{
		{client: "192.0.2.1", from: "a@example.com", message: "From: a@example.com\n\nx\n"},
		{client: "192.0.2.1", from: "b@example.com", message: "From: b@example.com\n\nx\n"},
		{client: "198.51.100.1", from: "a@example.com", message: "From: a@example.com\n\nx\n"},
		{client: "2001:db8::1", from: "", message: "From: a@news.example.net\n\nx\n"},
		{client: "192.0.2.1", from: "a@nothing.example", message: "From: a@nothing.example\n\nx\n"},
	}
}

func TestReportFiles(t *testing.T) {
	socket := counting(t, deliveries()...)
	out := t.TempDir()
	var log strings.Builder
	r := reporting{day: "2026-01-05", out: out, now: filtertest.Start.Add(24 * time.Hour), log: &log}
	if err := r.run(t.Context(), socket, io.Discard); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(out)
	if err != nil || len(files) != 2 || files[0].Name() != "mx.example.org!example.com!1767571200!1767657599.xml.gz" ||
		files[1].Name() != "mx.example.org!example.net!1767571200!1767657599.xml.gz" {
		t.Fatalf("%v, %v\n%s", files, err, &log)
	}
	f, err := os.Open(filepath.Join(out, files[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	document, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		"<org_name>Example, Inc.</org_name>", "<p>reject</p>", "<aspf>s</aspf>",
		"<source_ip>192.0.2.1</source_ip>\n   <count>2</count>\n   <policy_evaluated>\n    <disposition>pass</disposition>\n    <dkim>fail</dkim>\n    <spf>pass</spf>",
		"<source_ip>198.51.100.1</source_ip>\n   <count>1</count>\n   <policy_evaluated>\n    <disposition>none</disposition>\n    <dkim>fail</dkim>\n    <spf>fail</spf>\n    <reason>\n     <type>local_policy</type>",
		"<envelope_from>example.com</envelope_from>",
	} {
		if !strings.Contains(string(document), part) {
			t.Errorf("%s\nis not in\n%s", part, document)
		}
	}
}

func TestReportMessages(t *testing.T) {
	socket := counting(t, deliveries()...)
	var out, log strings.Builder
	r := reporting{now: filtertest.Start.Add(24 * time.Hour), log: &log} // yesterday
	if err := r.run(t.Context(), socket, &out); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count("\n"+out.String(), "\nFrom gatepost "); n != 2 {
		t.Errorf("%d messages", n)
	}
	for _, line := range []string{
		"example.com: report to dmarc@example.com, 2 rows\n",
		"example.com: no report to mailto:x@example.net: example.com._report._dmarc.example.net does not say that it wants reports\n",
		"example.net: no report to dmarc@example.net: it takes at most 100 bytes",
		"example.net: report to all@reports.example, 1 rows\n",
	} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("%q is not in\n%s", line, &log)
		}
	}
}

func TestReportPipe(t *testing.T) {
	socket := counting(t, deliveries()...)
	file := filepath.Join(t.TempDir(), "sent")
	var log strings.Builder
	r := reporting{day: "2026-01-05", domain: "example.com", pipe: "cat > '" + file + "'", now: filtertest.Start.Add(24 * time.Hour), log: &log}
	if err := r.run(t.Context(), socket, io.Discard); err != nil {
		t.Fatal(err)
	}
	sent, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(bytes.NewReader(sent))
	if err != nil || m.Header.Get("To") != "<dmarc@example.com>" || m.Header.Get("From") != `"Example, Inc." <dmarc@example.org>` {
		t.Errorf("%v\n%s", err, sent)
	}
	r.pipe = "echo no; exit 7"
	if err := r.run(t.Context(), socket, io.Discard); err != exitStatus(1) || !strings.Contains(log.String(), "exit status 7: no") {
		t.Errorf("%v\n%s", err, &log)
	}
	r.now = filtertest.Start
	if err := r.run(t.Context(), socket, io.Discard); err == nil || !strings.Contains(err.Error(), "is not over") {
		t.Errorf("%v", err)
	}
	r = reporting{day: "2026-01-04", now: filtertest.Start, log: &log}
	if err := r.run(t.Context(), socket, io.Discard); err != nil || !strings.Contains(log.String(), "Nobody who wants reports") {
		t.Errorf("%v\n%s", err, &log)
	}
	r = reporting{day: "yesterday", now: filtertest.Start, log: &log}
	if err := r.run(t.Context(), socket, io.Discard); err == nil {
		t.Error("a day in words")
	}
}
