package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatepost/policy/replay"
)

// replayRules are watched, but for one, in the order in which they decide. What enforces them is the same without "mode:".
const replayRules = `rules:
  - {name: blocked, when: 'mail.domain == "bad.test"', then: reject, reply: 550 5.7.1 not you}
  - {name: nobody, when: 'rcpt.local == "no"', then: reject, mode: observe}
  - {name: grey, when: 'mail.domain == "new.test"', then: greylist, mode: observe}
  - {name: large, when: 'message.size > 1000', then: reject, mode: observe}
  - name: lottery
    when: header("Subject") contains "lottery"
    then: defer
    mode: observe
filters: {ratelimit: {enabled: false}, greylist: {delay: 1h}}
`

// letter is one transaction of the traffic: of its own client in a session of its own, so that the one does not bear on
// the other.
type letter struct {
	from    string
	to      []string
	subject string
	size    int
	leaves  bool // with RSET, behind RCPT
}

var traffic = []letter{
	{from: "a@good.test", to: []string{"alice"}, subject: "hello"},
	{from: "a@bad.test", to: []string{"alice"}, subject: "hello"},
	{from: "b@good.test", to: []string{"no"}, subject: "hello"},
	{from: "c@good.test", to: []string{"no", "alice"}, subject: "a lottery"},
	{from: "d@good.test", to: []string{"alice"}, subject: "lottery", size: 2000},
	{from: "e@good.test", to: []string{"alice"}, subject: "hello", size: 2000},
	{from: "f@new.test", to: []string{"alice"}, subject: "hello"},
	{from: "g@new.test", to: []string{"no"}, subject: "hello"},
	{from: "f@new.test", to: []string{"alice"}, subject: "again"},
	{from: "h@good.test", to: []string{"alice"}, subject: "x", leaves: true},
	{from: "i@new.test", to: []string{"alice"}, subject: "x", leaves: true},
	{from: "j@bad.test", to: []string{"no"}, subject: "hello"},
	{from: "", to: []string{"alice"}, subject: "bounce of lottery"},
	{from: "k@good.test", to: []string{"alice", "bob"}, subject: "lottery"},
}

// code is a reply without the check of what it says.
func (c *smtpClient) code(line string) string {
	c.t.Helper()
	return c.say(line, "")[:3]
}

// send sends a letter and returns the codes of the replies from RCPT on.
func (s *served) send(l letter) string {
	s.t.Helper()
	c := s.dial()
	defer c.conn.Close()
	heard := []string{c.code("MAIL FROM:<" + l.from + ">")}
	accepted := false
	for _, to := range l.to {
		code := c.code("RCPT TO:<" + to + "@example.org>")
		heard, accepted = append(heard, code), accepted || code == "250"
	}
	if accepted && !l.leaves {
		heard = append(heard, c.code("DATA"))
		heard = append(heard, c.code(fmt.Sprintf("Subject: %s\r\n\r\n%s\r\n.", l.subject, strings.Repeat("x\r\n", l.size/3))))
	}
	c.code("QUIT")
	return strings.Join(heard, " ")
}

func (s *served) sendAll() []string {
	s.t.Helper()
	var heard []string
	for _, l := range traffic {
		heard = append(heard, s.send(l))
	}
	s.awaitRecorded(len(traffic))
	return heard
}

// awaitRecorded waits until the journal has as many transactions.
func (s *served) awaitRecorded(n int) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		text, _ := s.command("journal", "--since", "1h", "--where", `kind == "session"`)
		if strings.Count(text, "\n") >= n {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the journal has not got %d sessions:\n%s", n, text)
		}
	}
}

// fromOf returns the senders of the transactions that a rule is predicted to change, in order of time.
func fromOf(r *replay.Report) []string {
	var list []replay.Mention
	for _, g := range r.Changes {
		list = append(list, g.Transactions...)
	}
	slices.SortFunc(list, func(a, b replay.Mention) int { return a.Time.Compare(b.Time) })
	var senders []string
	for _, m := range list {
		senders = append(senders, m.From)
	}
	return senders
}

// What a rule would have changed while it was watched is what it changes when it is enforced and the same mail comes.
func TestObservedIsWhatEnforcedDoes(t *testing.T) {
	s := startServe(t, replayRules)
	before := s.sendAll()
	text, status := s.command("observe", "--json")
	var watched []watchedRule
	if err := json.Unmarshal([]byte(text), &watched); err != nil || status != 0 {
		t.Fatalf("status %d, %v:\n%s", status, err, text)
	}
	if len(watched) != 4 {
		t.Fatalf("%d rules are watched:\n%s", len(watched), text)
	}
	for _, w := range watched {
		t.Run(w.Name, func(t *testing.T) {
			if w.Report.Untold != 0 {
				t.Errorf("%d cannot be told: %+v", w.Report.Untold, w.Report.Unknown)
			}
			enforced := startServe(t, enforce(replayRules, w.Name))
			after := enforced.sendAll()
			var want []string
			for i, l := range traffic {
				if before[i] != after[i] {
					want = append(want, l.from)
				}
			}
			if got := fromOf(w.Report); !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("predicted %q, but really %q\nobserved: %q\nenforced: %q", got, want, before, after)
			}
		})
	}
	if text, status := s.command("backtest"); status != 0 || !strings.Contains(text, "nothing would come out differently.") {
		t.Errorf("the rules in force, status %d:\n%s", status, text)
	}
}

// enforce takes `mode: observe` from one rule.
func enforce(text, name string) string {
	before, rule, _ := strings.Cut(text, "name: "+name)
	rule = strings.Replace(rule, ", mode: observe", "", 1)
	if name == "lottery" {
		rule = strings.Replace(rule, "    mode: observe\n", "", 1)
	}
	return before + "name: " + name + rule
}

func TestBacktestCommand(t *testing.T) {
	s := startServe(t, replayRules)
	s.sendAll()
	harmful := filepath.Join(s.folder, "harmful.yaml")
	write(t, harmful, strings.ReplaceAll(read(t, s.file), "bad.test", "good.test"))
	text, status := gatepost("backtest", "-c", harmful)
	for _, want := range []string{
		"transactions: delivered, would be refused (550, rule blocked)\n", " <a@good.test> to <alice@example.org>\n",
		"2 transactions: refused (550, rule blocked), now it cannot be told: the mail server's answer to RCPT was not recorded\n", " <a@bad.test> to <alice@example.org>\n",
		"blocked  refused                 2    9         +7\n", "-        cannot be told          0    2         +2\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("without %q:\n%s", want, text)
		}
	}
	if status != 2 {
		t.Errorf("status %d", status)
	}
	if lost, untold := strings.Index(text, "delivered, would be refused"), strings.Index(text, "now it cannot be told: "); lost > untold {
		t.Errorf("not the worst first:\n%s", text)
	}
	text, status = gatepost("backtest", "-c", harmful, "--json", "--journal", filepath.Join(s.folder, "state-journal"))
	var report replay.Report
	if err := json.Unmarshal([]byte(text), &report); err != nil || status != 2 || report.Transactions != len(traffic) || report.Changes[0].Was != replay.Delivered {
		t.Errorf("status %d, %v:\n%s", status, err, text)
	}
	write(t, harmful, "backend: x\nrules: [{name: x, when: 'spf.resolt == 1', then: reject}]\n")
	if text, status := gatepost("backtest", "-c", harmful); status != 1 || !strings.Contains(text, "spf.resolt") {
		t.Errorf("a bad configuration: status %d\n%s", status, text)
	}
}

func TestPromoteCommand(t *testing.T) {
	s := startServe(t, replayRules)
	s.sendAll()
	for name, want := range map[string]string{
		"lottery": "-    mode: observe\n",
		"large":   "-  - {name: large, when: 'message.size > 1000', then: reject, mode: observe}\n+  - {name: large, when: 'message.size > 1000', then: reject}\n",
	} {
		text, status := s.command("promote", name)
		if !strings.Contains(text, want) || !strings.Contains(text, "warning: the sample is small") {
			t.Errorf("%s: status %d\n%s", name, status, text)
		}
		if harmful := strings.Contains(text, "that had been delivered would have been refused"); harmful != (name == "large") || (status == 2) != harmful {
			t.Errorf("%s: status %d\n%s", name, status, text)
		}
	}
	if text, status := s.command("promote", "blocked"); status != 1 || !strings.Contains(text, "the rule blocked is enforced already") {
		t.Errorf("status %d\n%s", status, text)
	}
	if text, status := s.command("promote", "nonsense"); status != 1 || !strings.Contains(text, `there is no rule "nonsense"`) {
		t.Errorf("status %d\n%s", status, text)
	}
	if text, _ := s.command("observe"); !strings.Contains(text, "lottery (defer, at "+s.file) || !strings.Contains(text, "watched since ") || !strings.Contains(text, "; first match ") {
		t.Errorf("observe:\n%s", text)
	}
}

// gatepost runs the command.
func gatepost(args ...string) (output string, status int) {
	command := exec.Command("gatepost", args...)
	text, _ := command.CombinedOutput()
	return string(text), command.ProcessState.ExitCode()
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
