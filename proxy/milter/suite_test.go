package milter

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/filtertest/suites"
	asked "gatepost/filters/milter"
	"gatepost/filters/milter/wire"
	"gatepost/filters/rdns"
	"gatepost/rules"
)

// milterSuite is what others found worth testing of a milter with real MTAs: what an MTA sends, and what comes of it.
const milterSuite = "milter/go-milter-dj-testcases/tests"

// refusedAlone are cases in which a filter refuses one of several recipients, and the MTA takes it out of the message.
// A milter that Gatepost asks is asked when RCPT was answered, so that taking one out would be a lie to the client; such a
// refusal is a fact (milter.NAME.refused_recipients).
const refusedAlone = "one of several recipients is refused, which is known too late"

var notAsked = map[string]string{
	"milter/multi#1": refusedAlone, "milter/reject-one": refusedAlone, "rcpt-to/multi#1": refusedAlone, "rcpt-to/reject-one": refusedAlone,
	"rcpt-to/reject-one-2": refusedAlone,
}

// notRules are cases about what rules do not do by themselves: they add fields on top, and change nothing else.
const notRules = "rules change neither bodies, fields nor envelopes"

var notDecided = map[string]string{
	"body/add": notRules, "header/add-first": notRules, "header/add-middle": notRules, "header/add": notRules, "header/change-to": notRules,
	"header/del": notRules, "header/multi": notRules, "header/multiline": notRules, "header/subject": notRules, "mail-from/change": notRules,
	"rcpt-to/add": notRules, "rcpt-to/change": notRules, "rcpt-to/multi": notRules,
}

// suiteCase is a transaction of a case: what the MTA says, and what shall come of it.
type suiteCase struct {
	tls  bool
	user string
	said [][2]string // FROM, TO and RESET, in order
	head string
	body string

	decision, stage, reply string
	from                   string   // empty: it does not matter
	to                     []string // likewise
	newHead, newBody       string
}

// readSuiteCase reads a file of one or more transactions.
func readSuiteCase(t *testing.T, path string) (list []*suiteCase) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	c := &suiteCase{}
	block := func() (content string) {
		for lines[0] != "." {
			content += lines[0] + "\r\n"
			lines = lines[1:]
		}
		lines = lines[1:]
		return content
	}
	for len(lines) > 0 {
		line := lines[0]
		lines = lines[1:]
		word, rest, _ := strings.Cut(line, " ")
		expected, isExpected := strings.CutSuffix(rest, " *")
		decided := c.decision != ""
		if decided && (word == "#" || word == "DECISION" || (word == "FROM" || word == "TO") && !isExpected) {
			list, c = append(list, c), &suiteCase{}
			decided = false
		}
		switch {
		case word == "#":
		case word == "STARTTLS":
			c.tls = true
		case word == "AUTH":
			c.user = rest
		case word == "DECISION":
			c.decision, c.stage, _ = strings.Cut(rest, "@")
		case word == "FROM" && decided:
			c.from = expected
		case word == "TO" && decided:
			c.to = append(c.to, expected)
		case word == "FROM", word == "TO", word == "RESET":
			c.said = append(c.said, [2]string{word, rest})
		case word == "HEADER" && decided:
			c.newHead = strings.TrimPrefix(block(), "Received: placeholder\r\n")
		case word == "HEADER":
			c.head = block()
		case word == "BODY" && decided:
			c.newBody = block()
		case word == "BODY":
			c.body = block()
		case decided && c.decision == "CUSTOM":
			c.reply += line + "\n"
		default:
			t.Fatalf("%s: what is %q?", path, line)
		}
	}
	return append(list, c)
}

// runSuite runs every case but those that are left out ("#1": its first transaction), each transaction on a connection of
// its own.
func runSuite(t *testing.T, name string, leftOut map[string]string, run func(*testing.T, string, *suiteCase)) {
	root := suites.Path(t, milterSuite)
	passed, total := 0, 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		group := filepath.Base(filepath.Dir(path))
		id := group + "/" + strings.TrimSuffix(entry.Name(), ".testcase")
		total++
		if leftOut[id] != "" {
			return nil
		}
		if t.Run(id, func(t *testing.T) {
			for i, c := range readSuiteCase(t, path) {
				if leftOut[fmt.Sprintf("%s#%d", id, i+1)] == "" {
					run(t, group, c)
				}
			}
		}) {
			passed++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("suite %s: %d/%d (%d left out by name)\n", name, passed, total, len(leftOut))
	for _, id := range slices.Sorted(func(yield func(string) bool) {
		for id := range leftOut {
			if !yield(id) {
				return
			}
		}
	}) {
		t.Logf("left out: %s: %s", id, leftOut[id])
	}
}

// TestSuiteAsked: an MTA calls Gatepost, which asks the suite's filter: what the filter answers is what the MTA hears.
func TestSuiteAsked(t *testing.T) {
	runSuite(t, "milter/asked-through-both-ends", notAsked, func(t *testing.T, group string, c *suiteCase) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		filter := &suiteFilter{group: group}
		serving, stop := context.WithCancel(context.Background())
		served := make(chan struct{})
		go func() { defer close(served); filter.serve(serving, listener) }()
		t.Cleanup(func() { stop(); listener.Close(); <-served })
		h := start(t, setup{specs: []filters.Spec{rdns.Spec, asking(listener.Addr().String())}, rules: []rules.Definition{
			rule("rejects", "test.rejects", "reject", "reply", "{test.reply}"), rule("defers", "test.defers", "defer"),
			rule("discards", "test.discards", "discard"), rule("holds", "known(test.quarantine)", "quarantine"),
		}})
		o := c.hold(t, h)
		c.check(t, o, "EOM")
		for _, r := range h.journal.Await(t, "transaction", 1)[0].Filters {
			if r.Error != "" {
				t.Errorf("%s: %s", r.Name, r.Error)
			}
		}
		if c.stage == "FROM" {
			records := h.journal.Await(t, "transaction", 1)
			if stage, _ := records[0].Facts.Lookup("test.stage"); stage != "mail" {
				t.Errorf("the filter spoke at %v", stage)
			}
		}
	})
}

// TestSuiteDecided: an MTA calls Gatepost, whose rules decide as the suite's filter does, at the same stages.
func TestSuiteDecided(t *testing.T) {
	runSuite(t, "milter/decided-by-rules", notDecided, func(t *testing.T, group string, c *suiteCase) {
		h := start(t, setup{rules: suiteRules(group)})
		c.check(t, c.hold(t, h), "")
	})
}

// suiteRules decide as the filter of a group.
func suiteRules(group string) []rules.Definition {
	switch group {
	case "auth":
		return []rules.Definition{rule("tls", "not helo.tls", "reject", "at", "mail", "reply", "500 5.7.0 No starttls"),
			rule("user", `helo.user == ""`, "reject", "at", "mail", "reply", "501 5.7.0 No authentication"),
			rule("ok", "true", "reject", "at", "mail", "reply", "502 5.7.0 Ok")}
	case "mail-from":
		return []rules.Definition{rule("custom", `mail.local == "custom"`, "reject", "at", "mail", "reply", "555 5.0.0 custom"),
			rule("discard", `mail.local == "discard"`, "discard"), rule("quarantine", `mail.local == "quarantine"`, "quarantine"),
			rule("reject", `mail.local == "reject"`, "reject", "at", "mail"), rule("later", `mail.local == "temp-fail"`, "defer", "at", "mail")}
	case "milter":
		return []rules.Definition{rule("me", `mail.local == "reject-me"`, "reject", "reply", "550 5.7.1 We do not like you\nvery much, please go away"),
			rule("other", `rcpt.local == "other-spammer"`, "reject")}
	case "rcpt-to":
		return []rules.Definition{rule("custom", `rcpt.local == "custom"`, "reject", "reply", "555 5.0.0 custom"),
			rule("discard", `rcpt.local in ["discard", "discard-one"]`, "discard"), rule("quarantine", `rcpt.local == "quarantine"`, "quarantine"),
			rule("reject", `rcpt.local in ["reject", "reject-one"]`, "reject"), rule("later", `rcpt.local == "temp-fail"`, "defer")}
	}
	return nil
}

// suiteOutcome is what became of a transaction.
type suiteOutcome struct {
	stage    string // at which the last word was said
	code     byte
	reply    string
	held     bool
	from     string
	to       []string
	head     []suiteField
	newBody  []byte
	replaced bool
}

// hold plays the MTA.
func (c *suiteCase) hold(t *testing.T, h *house) (o suiteOutcome) {
	t.Helper()
	conn, err := net.Dial(h.network, h.address)
	if err != nil {
		t.Fatal(err)
	}
	m, err := callOver(conn, fullOffer)
	if err != nil {
		t.Fatal(err)
	}
	defer m.quit()
	if c.tls {
		m.values["{tls_version}"], m.values["{cipher}"] = "TLSv1.3", "TLS_AES_128_GCM_SHA256"
	}
	m.values["{auth_authen}"] = c.user
	said := c.said
	if !slices.ContainsFunc(said, func(s [2]string) bool { return s[0] == "FROM" }) {
		said = append([][2]string{{"FROM", "<from@example.com>"}}, said...)
	}
	if !slices.ContainsFunc(said, func(s [2]string) bool { return s[0] == "TO" }) {
		said = append(slices.Clone(said), [2]string{"TO", "<to@example.com>"})
	}
	final := func(stage string, a answer, err error) bool {
		if err != nil {
			t.Fatalf("%s: %v", stage, err)
		}
		if a.code == 0 || a.code == 'c' {
			return false
		}
		o.stage, o.code, o.reply = stage, a.code, a.reply
		return a.code != 'd' && a.code != 's'
	}
	a, err := m.connect(wire.Connect{Name: "client.test", Family: milter.FamilyInet, Port: 25, Address: "192.0.2.7"})
	if final("CONNECT", a, err) {
		return o
	}
	if a, err = m.helo("client.test"); final("HELO", a, err) {
		return o
	}
	for _, s := range said {
		switch s[0] {
		case "RESET":
			if err := m.abort(); err != nil {
				t.Fatal(err)
			}
			o = suiteOutcome{}
			a, err = m.mail(said[0][1])
			final("FROM", a, err)
		case "FROM":
			o.from = s[1]
			if a, err = m.mail(s[1]); final("FROM", a, err) {
				return o
			}
		case "TO":
			if a, err = m.rcpt(s[1]); !final("TO", a, err) {
				o.to = append(o.to, s[1])
			}
		}
	}
	if o.from == "" {
		o.from = said[0][1]
	}
	if len(o.to) == 0 || o.code == 'd' {
		return o
	}
	if a, err = m.data(); final("DATA", a, err) {
		return o
	}
	head, body := c.head, c.body
	if head == "" {
		head = "From: <from@example.com>\r\nSubject: test\r\n"
	}
	o.stage = "EOM"
	c.message(t, m, head, body, &o)
	return o
}

type suiteField struct{ name, value string }

// suiteFields cuts a header. Values are as MTAs give them: with the blank in front, and LF alone.
func suiteFields(head string) (list []suiteField) {
	for line := range strings.Lines(strings.ReplaceAll(head, "\r\n", "\n")) {
		line = strings.TrimSuffix(line, "\n")
		if line[0] == ' ' || line[0] == '\t' {
			list[len(list)-1].value += "\n" + line
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		list = append(list, suiteField{name, value})
	}
	return list
}

// message sends header and body, and does what is answered to the end as MTAs do.
func (c *suiteCase) message(t *testing.T, m *caller, head, body string, o *suiteOutcome) {
	t.Helper()
	o.head = suiteFields(head)
	for _, f := range o.head {
		m.sent = wire.AppendTexts(m.sent, 'L', f.name, f.value)
	}
	if !m.has(milter.OptHeaderLeadingSpace) || !m.has(milter.OptNoHeaderReply) || !m.has(milter.OptNoEOHReply) {
		t.Fatalf("the server has not asked for what it uses to: %+v", m.agreed)
	}
	m.sent = wire.Append[string](m.sent, 'N')
	if body != "" && !m.has(milter.OptNoBody) {
		m.sent = wire.Append(m.sent, 'B', body)
		if a, err := m.ask(milter.OptNoBodyReply); err != nil || a.code != 'c' && a.code != 's' {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	m.macros(milter.CodeEOB)
	m.sent = wire.Append[string](m.sent, 'E')
	if err := m.send(); err != nil {
		t.Fatal(err)
	}
	for {
		code, data, err := m.frame()
		if err != nil {
			t.Fatal(err)
		}
		text := wire.Text(data)
		e, _ := wire.ParseHeaderEdit(data)
		switch code {
		case 'i':
			o.head = slices.Insert(o.head, min(int(max(e.Index, 1)-1), len(o.head)), suiteField{e.Name, e.Value})
		case 'h':
			name, value, _ := wire.Header(data)
			o.head = append(o.head, suiteField{string(name), string(value)})
		case 'm':
			o.change(t, e)
		case 'b':
			o.newBody, o.replaced = append(o.newBody, data...), true
		case 'q':
			o.held = true
		case '+':
			o.to = append(o.to, text)
		case '-':
			o.to = slices.DeleteFunc(o.to, func(to string) bool { return to == text })
		case 'e':
			o.from = text
		case 'y':
			code, lines, _ := wire.ParseReply(data)
			o.code, o.reply = 'y', fmt.Sprintf("%d %s", code, strings.Join(lines, "\n"))
			return
		case 'p':
		default:
			o.code = code
			return
		}
	}
}

// change changes or deletes a field, counted among those of its name.
func (o *suiteOutcome) change(t *testing.T, e wire.HeaderEdit) {
	t.Helper()
	count := uint32(0)
	for i := range o.head {
		if !strings.EqualFold(o.head[i].name, e.Name) {
			continue
		}
		if count++; count < e.Index {
			continue
		}
		if e.Value == "" {
			o.head = slices.Delete(o.head, i, i+1)
		} else {
			o.head[i].value = e.Value
		}
		return
	}
	t.Errorf("there is no %s number %d", e.Name, e.Index)
}

// check compares with what the case wants. Where a milter is asked, at is the stage at which the MTA hears of it.
func (c *suiteCase) check(t *testing.T, o suiteOutcome, at string) {
	t.Helper()
	stage := c.stage
	if at != "" || stage == "*" {
		stage = o.stage
	}
	status := o.reply[:min(len(o.reply), 1)]
	switch c.decision {
	case "ACCEPT":
		if o.stage != "EOM" || o.code != 'c' && o.code != 'a' || o.held {
			t.Errorf("not accepted: %+v", o)
		}
	case "REJECT":
		if o.code != 'r' && status != "5" || o.stage != stage {
			t.Errorf("not rejected at %s: %+v", stage, o)
		}
	case "TEMPFAIL":
		if o.code != 't' && status != "4" || o.stage != stage {
			t.Errorf("not put off at %s: %+v", stage, o)
		}
	case "DISCARD-OR-QUARANTINE":
		if o.code != 'd' && !o.held {
			t.Errorf("neither thrown away nor held: %+v", o)
		}
	case "CUSTOM":
		if got, want := plainReply(o.reply), plainReply(c.reply); got != want || o.stage != stage {
			t.Errorf("%q at %s, want %q at %s", got, o.stage, want, stage)
		}
	default:
		t.Fatalf("what is the decision %q?", c.decision)
	}
	if c.from != "" && o.from != c.from {
		t.Errorf("from %s, want %s", o.from, c.from)
	}
	if got, want := slices.Sorted(slices.Values(o.to)), slices.Sorted(slices.Values(c.to)); c.to != nil && !slices.Equal(got, want) {
		t.Errorf("to %s, want %s", got, want)
	}
	if c.newHead != "" {
		if len(o.head) > 0 && o.head[0].name == "Authentication-Results" { // our own
			o.head = o.head[1:]
		}
		if got := headOf(o.head); got != c.newHead {
			t.Errorf("got\n%swant\n%s", got, c.newHead)
		}
	}
	if c.newBody != "" && (!o.replaced || string(o.newBody) != c.newBody) {
		t.Errorf("body %q, want %q", o.newBody, c.newBody)
	}
}

// plainReply is a reply without what MTAs and Gatepost may put there: enhanced codes where there is none, and our own id.
func plainReply(reply string) string {
	var lines []string
	code := reply[:min(len(reply), 3)]
	for line := range strings.SplitSeq(strings.TrimSpace(reply), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if rest, found := strings.CutPrefix(line, code); found {
			line = strings.TrimLeft(rest, " -")
		}
		if first, rest, found := strings.Cut(line, " "); found && strings.Count(first, ".") == 2 {
			line = rest
		}
		if id := strings.Index(line, " (id "); id >= 0 {
			line = line[:id]
		}
		lines = append(lines, line)
	}
	return code + " " + strings.Join(lines, "\n")
}

func headOf(list []suiteField) string {
	var b strings.Builder
	for _, f := range list {
		b.WriteString(strings.ReplaceAll(f.name+":"+f.value, "\n", "\r\n") + "\r\n")
	}
	return b.String()
}

// asking is the filter that asks a milter, called test.
func asking(address string) filters.Spec {
	return filters.Define("test", "", asked.Defaults, func(c asked.Config, env filters.Env) (*asked.Filter, error) {
		c.Name, c.Address = "test", asked.Address{Network: "tcp", Address: address}
		c.Edits = []string{"headers", "body", "recipients", "sender"}
		env.Dialer = suiteDialer{}
		return asked.New(c, env)
	}, filters.On(filters.AtMessage, (*asked.Filter).Message))
}

type suiteDialer struct{}

func (suiteDialer) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// suiteFilter answers as the suite's filters do, which are told apart by the folder of a case.
type suiteFilter struct{ group string }

// serve ends with ctx: connections that are kept for further messages are closed then.
func (f *suiteFilter) serve(ctx context.Context, l net.Listener) {
	var sessions sync.WaitGroup
	defer sessions.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		sessions.Go(func() {
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			f.session(conn)
		})
	}
}

func (f *suiteFilter) session(conn net.Conn) {
	defer conn.Close()
	r := wire.NewReader(conn)
	macros := map[string]string{}
	from, quarantined, body, rcpts := "", false, []byte(nil), []string(nil)
	for {
		code, _, err := r.Next()
		if err != nil {
			return
		}
		data, err := r.Data()
		if err != nil {
			return
		}
		answer := wire.Append[string](nil, 'c')
		switch milter.Code(code) {
		case milter.CodeOptNeg:
			answer = (&wire.Negotiation{Version: 6, Actions: 0x1ff, Protocol: milter.OptHeaderLeadingSpace}).AppendTo(nil)
		case milter.CodeMacro:
			_, pairs := wire.Macros(data)
			for name, value := range pairs {
				macros[string(name)] = string(value)
			}
			continue
		case milter.CodeMail:
			from, _ = wire.Envelope(data)
			rcpts, body, quarantined = nil, nil, false
			answer = f.mail(from, macros)
		case milter.CodeRcpt:
			to, _ := wire.Envelope(data)
			rcpts = append(rcpts, to)
			answer, quarantined = f.rcpt(to)
		case milter.CodeBody:
			body = append(body, data...)
		case milter.CodeEOB:
			answer = f.end(from, rcpts, body, quarantined)
		case milter.CodeAbort:
			continue
		case milter.CodeQuit:
			return
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

func localPart(path string) string {
	local, _ := filters.SplitAddress(strings.Trim(path, "<>"))
	return local
}

func (f *suiteFilter) mail(from string, macros map[string]string) []byte {
	simple := map[string]byte{"reject": 'r', "temp-fail": 't', "discard": 'd'}
	switch local := localPart(from); {
	case f.group == "auth" && macros["{tls_version}"] == "":
		return wire.AppendReply(nil, 500, []string{"No starttls"})
	case f.group == "auth" && macros["{auth_authen}"] == "":
		return wire.AppendReply(nil, 501, []string{"No authentication"})
	case f.group == "auth" && macros["{auth_authen}"] == strings.Trim(from, "<>"):
		return wire.AppendReply(nil, 502, []string{"Ok"})
	case f.group == "mail-from" && local == "custom":
		return wire.AppendReply(nil, 555, []string{"5.0.0 custom"})
	case f.group == "mail-from" && simple[local] != 0:
		return wire.Append[string](nil, simple[local])
	case f.group == "milter" && local == "reject-me":
		return wire.AppendReply(nil, 550, []string{"5.7.1 We do not like you", "5.7.1 very much, please go away"})
	}
	return wire.Append[string](nil, 'c')
}

func (f *suiteFilter) rcpt(to string) (answer []byte, quarantine bool) {
	simple := map[string]byte{"reject": 'r', "temp-fail": 't', "discard": 'd', "discard-one": 'd'}
	switch local := localPart(to); {
	case f.group != "rcpt-to":
	case local == "custom":
		return wire.AppendReply(nil, 555, []string{"5.0.0 custom"}), false
	case local == "quarantine":
		quarantine = true
	case simple[local] != 0:
		return wire.Append[string](nil, simple[local]), false
	}
	return wire.Append[string](nil, 'c'), quarantine
}

// end is what the filters change, and their last word.
func (f *suiteFilter) end(from string, rcpts []string, body []byte, quarantined bool) (frames []byte) {
	insert := func(index uint32, name, value string) {
		frames = (&wire.HeaderEdit{Index: index, Name: name, Value: value}).AppendTo(frames, milter.ActInsertHeader)
	}
	change := func(name, value string) {
		frames = (&wire.HeaderEdit{Index: 1, Name: name, Value: value}).AppendTo(frames, milter.ActChangeHeader)
	}
	add := func(name, value string) { frames = wire.AppendTexts(frames, 'h', name, value) }
	switch local := localPart(from); f.group + " " + local {
	case "body add":
		frames = wire.Append(frames, 'b', bytes.ReplaceAll(append(body, "two\r\n"...), []byte("\r\n"), []byte("\n")))
	case "header add":
		add("X-ADD1", " Test")
		add("X-ADD2", " Test")
	case "header add-first":
		insert(1, "X-First1", " Test")
		insert(2, "X-First2", " Test")
	case "header add-middle":
		insert(3, "X-Middle1", " Test")
		insert(4, "X-Middle2", " Test")
	case "header change-to":
		change("To", " <to@example.com>,\n <to@example.org>")
	case "header del":
		change("Subject", "")
	case "header subject":
		change("Subject", " changed")
	case "header multiline":
		add("X-MultiLine", " Line1\n\tLine2\n\tLine3")
	case "header multi":
		insert(1, "X-First1", " Test")
		insert(2, "X-First2", " Test")
		change("Subject", "")
		insert(5, "X-Before-DATE", " Test")
		add("X-ADD1", " Test")
		add("X-ADD2", " Test")
	case "mail-from change":
		frames = wire.AppendTexts(frames, byte(milter.ActChangeFrom), "<another@example.com>")
	case "mail-from quarantine":
		quarantined = true
	}
	for _, to := range rcpts {
		switch f.group + " " + localPart(to) {
		case "rcpt-to change":
			frames = wire.AppendTexts(frames, byte(milter.ActDelRcpt), to)
			frames = wire.AppendTexts(frames, byte(milter.ActAddRcpt), "<another@example.com>")
		case "rcpt-to add":
			frames = wire.AppendTexts(frames, byte(milter.ActAddRcpt), "<another@example.com>")
		}
	}
	if quarantined {
		frames = wire.AppendTexts(frames, byte(milter.ActQuarantine), "test")
	}
	return wire.Append[string](frames, 'a')
}
