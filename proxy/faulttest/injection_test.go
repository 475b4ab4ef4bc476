package faulttest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatepost/filters"
	"gatepost/proxy/backend/backendtest"
)

// Rules that carry what the client said into replies, header fields and the log.
const tellingRules = `
  - {name: named, when: helo.name contains "refuse", then: reject, at: helo, reply: "550 5.7.1 You said {helo.name}"}
  - {name: sender, when: mail.local contains "refuse", then: reject, reply: "550 5.7.1 Not from {mail.address} by {helo.name}"}
  - {name: recipient, when: rcpt.local contains "refuse", then: reject, reply: "550 5.7.1 Not to {rcpt.address}"}
  - {name: tagged, when: not mail.null, then: tag, header: "X-Marked: {mail.local} {helo.name} {mail.domain}"}
`

// nasty draws text in which everything occurs that means something to somebody.
func nasty(label string) *rapid.Generator[string] {
	part := rapid.SampledFrom([]string{"a", "example.org", "x", "0", "-", ".", "@", "<", ">", `"`, `\`, `\"`, "'", "=", "+", "+0D+0A", "+00", "%0d%0a", ";", ",", ":", "(", ")",
		"[", "]", "{", "}", "{client.ip}", "$x", "\t", " ", "\r", "\n", "\x00", "\x1b[2J", "\x1b]0;x\a", "\x7f", "\x85", "\u009b", "\u2028", "\u202e", "é", "\xff", "\ufeff",
		" ADDR=127.0.0.1", " LOGIN=root", "NAME=", " HELO=evil", "RCPT TO:<evil@example.com>", "time=now level=ERROR msg=forged", `","msg":"forged"`, "refuse", "mx.test", "spf=pass"})
	return rapid.Custom(func(r *rapid.T) string {
		text := strings.Join(rapid.SliceOfN(part, 0, 6).Draw(r, label), "")
		for strings.Contains(text, "\r\n") { // that would be two commands
			text = strings.ReplaceAll(text, "\r\n", "\r")
		}
		return text
	})
}

// commandLine is what a backend may be told. Anything else is of somebody else's making.
var commandLine = regexp.MustCompile(`^(XCLIENT( [A-Z_]+=[!-*,-<>-~+]+)+|EHLO [!-~]+|HELO [!-~]+|MAIL FROM:<[^\x00-\x1f\x7f]*>( [A-Z0-9]+(=[^ \x00-\x1f\x7f]*)?)*|` +
	`RCPT TO:<[^\x00-\x1f\x7f]+>( [A-Z]+=[^ \x00-\x1f\x7f]*)*|DATA|BDAT [0-9]+ LAST|RSET|NOOP|QUIT)$`)

// TestNothingBecomesSyntax: whatever a client says, the backend hears commands that the proxy means, the message gets the
// fields that the proxy means, and the log has the lines that the proxy means.
func TestNothingBecomesSyntax(t *testing.T) {
	t.Parallel()
	s := newSite(t, filters.SystemClock{})
	rounds := 3
	if environment(t, "GATEPOST_FAULT_POSITIONS", shortPositions) > shortPositions {
		rounds = 100
	}
	for _, format := range []string{"text", "json"} {
		for _, address := range []string{"xclient", "none"} {
			x := &injection{log: &telemetryLog{format: format}}
			behaviour := backendtest.Behaviour{}
			if address == "none" {
				behaviour.XClient = backendtest.XClientNever
			}
			x.house = s.open(t, setup{rules: tellingRules, logTo: x.log, deliver: x.box.deliver, backends: []backendtest.Behaviour{behaviour},
				backend: "  client_address: " + address + "\n  reuse: false"})
			x.ledger.foreign = true
			x.received = address == "none"
			for range rounds {
				t.Run(format+" "+address, func(t *testing.T) { rapid.Check(t, x.try) })
			}
			x.stop()
			if x.delivered < 10 || x.refused < 10 {
				t.Errorf("%d messages were delivered and %d refused: that shows little", x.delivered, x.refused)
			}
			if err := x.log.lines(); err != nil {
				t.Errorf("%s %s: %v", format, address, err)
			}
		}
	}
}

type injection struct {
	*house
	box      mailbox
	log      *telemetryLog
	received bool
	sessions int // of the backend that were looked at

	delivered, refused int
}

// try plays a session of nasty words. Whatever is refused is refused: what counts is what comes out elsewhere.
func (x *injection) try(r *rapid.T) {
	helo := nasty("helo").Draw(r, "helo")
	from := rapid.OneOf(nasty("from"), rapid.Map(nasty("quoted"), func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"@example.org`
	}), rapid.Just("a@example.org")).Draw(r, "from")
	to := rapid.OneOf(rapid.Map(nasty("to"), func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"@example.com`
	}),
		rapid.Just("b@example.com")).Draw(r, "to")
	params := rapid.SampledFrom([]string{"", " SIZE=100", " BODY=8BITMIME SMTPUTF8", " ENVID=" + nasty("envid").Draw(r, "envid"), " SMTPUTF8", " " + nasty("param").Draw(r, "param")}).Draw(r, "params")
	orcpt := rapid.SampledFrom([]string{"", " ORCPT=rfc822;" + nasty("orcpt").Draw(r, "orcpt"), " NOTIFY=" + nasty("notify").Draw(r, "notify")}).Draw(r, "rcpt params")
	field := strings.NewReplacer("\r", "", "\x00", "").Replace(nasty("field").Draw(r, "field"))

	c := x.connect("i")
	c.greeted()
	greeting := rapid.SampledFrom([]string{"EHLO ", "HELO "}).Draw(r, "verb")
	c.send(greeting + helo + "\r\n")
	if c.reply("EHLO", "250"); !strings.HasPrefix(c.last, "250") {
		c.ehlo()
	}
	c.send("MAIL FROM:<" + from + ">" + params + "\r\n")
	mail := c.reply("MAIL", "250 2.1.0")
	c.send("RCPT TO:<" + to + ">" + orcpt + "\r\n")
	rcpt := c.reply("RCPT", "250 2.1.5")
	x.printable(r, c.last)
	if mail == 250 && rcpt != 250 {
		c.send("RCPT TO:<b@example.com>\r\n")
		rcpt = c.reply("RCPT", "250 2.1.5")
		x.printable(r, c.last)
	}
	final := 0
	message := "Authentication-Results: mx.test; spf=pass " + strings.ReplaceAll(field, "\n", "\r\n\t") + "\r\nSubject: " + strings.ReplaceAll(field, "\n", " ") + "\r\n\r\nbody\r\n"
	if mail == 250 && rcpt == 250 {
		c.send("DATA\r\n")
		c.reply("DATA", "354")
		c.send(strings.ReplaceAll(message, "\r\n.", "\r\n..") + ".\r\n")
		final = c.reply("end of data", "250")
	}
	c.quit()
	c.end()
	if c.err != nil {
		r.Fatalf("the session broke: %v, last %q", c.err, c.last)
	}
	if err := x.waitIdle(); err != nil {
		r.Fatal(err)
	}
	x.checkCommands(r, final == 250)
	messages := x.box.take()
	if want := final / 250; len(messages) != want {
		r.Fatalf("%d messages arrived, final reply %d", len(messages), final)
	}
	x.delivered += len(messages)
	x.refused += 1 - len(messages)
	for _, m := range messages {
		x.checkMessage(r, m, message)
	}
}

// printable: a reply is shown on terminals and in bounces.
func (x *injection) printable(r *rapid.T, reply string) {
	for _, c := range []byte(strings.ReplaceAll(reply, "\n", "")) {
		if c < ' ' || c == 0x7f {
			r.Fatalf("a control character in the reply %q", reply)
		}
	}
}

// checkCommands looks at what the backend heard in the sessions since the last look.
func (x *injection) checkCommands(r *rapid.T, delivered bool) {
	all := x.backends[0].Sessions()
	fresh := all[x.sessions:]
	x.sessions = len(all)
	bodies := 0
	for _, session := range fresh {
		if strings.Contains(strings.Join(session.Lines(), " "), "gatepost-probe") {
			continue
		}
		mails := 0
		for _, line := range session.Lines() {
			if !commandLine.MatchString(line) || len(line) > 2000 {
				r.Fatalf("the backend was told %q", line)
			}
			verb, arg, _ := strings.Cut(line, " ")
			switch verb {
			case "XCLIENT":
				x.checkXclient(r, arg)
			case "MAIL":
				mails++
			case "BDAT", "DATA":
				bodies++
			}
		}
		if mails > 1 {
			r.Fatalf("%d MAIL commands: %q", mails, session.Lines())
		}
	}
	if bodies > 1 || delivered && bodies == 0 {
		r.Fatalf("%d messages begun", bodies)
	}
}

func (x *injection) checkXclient(r *rapid.T, arg string) {
	seen := map[string]string{}
	for _, pair := range strings.Split(arg, " ") {
		key, value, _ := strings.Cut(pair, "=")
		if _, twice := seen[key]; twice {
			r.Fatalf("XCLIENT %s: %s twice", arg, key)
		}
		seen[key] = value
	}
	ip, err := netip.ParseAddr(seen["ADDR"])
	if _, login := seen["LOGIN"]; err != nil || !ip.IsLoopback() || login || len(arg) > 502 {
		r.Fatalf("XCLIENT %s", arg)
	}
}

var ourField = regexp.MustCompile(`^(Received: from [A-Za-z0-9.:_?\[\]-]+ \(\[127\.0\.0\.1\]\) by mx\.test \(Gatepost\) with (SMTP|ESMTP|UTF8SMTP|ESMTPS) id [0-9A-Z.]+; [ -:<-~]+|` +
	`X-Marked: [^\x00-\x1f\x7f]*|Authentication-Results: mx\.test(;[^\x00-\x1f\x7f]+)+)$`)

var quoted = regexp.MustCompile(`"([^"\\]|\\.)*"`)

// checkMessage reads the header as a mail reader does.
func (x *injection) checkMessage(r *rapid.T, m *backendtest.Message, sent string) {
	_, below, _ := strings.Cut(sent, "\r\nSubject: ") // the forged field is taken away
	top, found := strings.CutSuffix(string(m.Data), "Subject: "+below)
	if !found {
		r.Fatalf("sent %q, arrived %q", sent, m.Data)
	}
	unfolded := regexp.MustCompile(`\r\n[ \t]+`).ReplaceAllString(top, " ")
	counts := map[string]int{}
	for _, line := range strings.Split(strings.TrimSuffix(unfolded, "\r\n"), "\r\n") {
		if !ourField.MatchString(line) {
			r.Fatalf("a field on top is %q", line)
		}
		name, value, _ := strings.Cut(line, ":")
		counts[name]++
		if value = quoted.ReplaceAllString(value, ""); name == "Authentication-Results" && (strings.Count(value, "; spf=") > 2 || strings.Count(value, "; iprev=") != 1) {
			r.Fatalf("results are forged: %q", line)
		}
	}
	want := map[string]int{"Authentication-Results": 1, "X-Marked": 1}
	if x.received {
		want["Received"] = 1
	}
	if m.Sender == "" {
		delete(want, "X-Marked")
	}
	if fmt.Sprint(counts) != fmt.Sprint(want) {
		r.Fatalf("fields on top are %v, want %v: %q", counts, want, top)
	}
}

// lines checks the log: every line is one that slog has made, with keys that we use.
func (l *telemetryLog) lines() error {
	known := []string{"time", "level", "msg", "id", "client", "helo", "from", "to", "verdict", "rule", "observed", "reply", "backend", "queue_id", "size", "line_endings",
		"note", "took", "facts", "failed", "session", "transaction", "error", "command", "reason", "greylist"}
	text := l.String()
	if text == "" {
		return fmt.Errorf("nothing was logged")
	}
	for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
		line := scanner.Bytes()
		if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u202e' }); i >= 0 {
			return fmt.Errorf("a control character in %q", line)
		}
		keys, err := l.keys(line)
		if err != nil {
			return fmt.Errorf("%w in %q", err, line)
		}
		for i, key := range keys {
			if !slices.Contains(known, key) || slices.Contains(keys[:i], key) {
				return fmt.Errorf("key %q in %q", key, line)
			}
		}
	}
	return nil
}

func (l *telemetryLog) keys(line []byte) (keys []string, err error) {
	if l.format == "json" {
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.Token()
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			keys = append(keys, fmt.Sprint(key))
			var value any
			if err := decoder.Decode(&value); err != nil {
				return nil, err
			}
		}
		return keys, nil
	}
	rest := string(line)
	for rest != "" {
		key, after, found := strings.Cut(rest, "=")
		if !found {
			return nil, fmt.Errorf("no key")
		}
		keys = append(keys, key)
		if strings.HasPrefix(after, `"`) {
			quoted, err := strconv.QuotedPrefix(after)
			if err != nil {
				return nil, err
			}
			rest = strings.TrimPrefix(after[len(quoted):], " ")
			continue
		}
		_, rest, _ = strings.Cut(after, " ")
	}
	return keys, nil
}
