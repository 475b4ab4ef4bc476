package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/proxy/journal"
)

// storyRules cover a refusal, greylisting and a rule that is only watched.
const storyRules = `rules:
  - name: blocked
    when: mail.domain == "bad.test" and (helo.name startsWith "spam" or mail.local != "postmaster")
    then: reject
    reply: 550 5.7.1 not {mail.domain}
  - {name: grey, when: 'rcpt.local == "slow"', then: greylist}
  - {name: watched, when: 'mail.domain == "new.test"', then: reject, mode: observe}
`

var idInReply = regexp.MustCompile(`\(id ([0-9A-Z]{13}\.[0-9]+)\)`)

// awaitWhy repeats a question until the journal has the answer: entries are written within a second.
func (s *served) awaitStory(want string, arguments ...string) string {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		text, status := s.command(arguments...)
		if status == 0 && strings.Contains(text, want) {
			return text
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%q: status %d, without %q:\n%s", arguments, status, want, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestWhy(t *testing.T) {
	s := startServe(t, storyRules)
	reply := s.recipient("mallory@bad.test", "550 5.7.1 not bad.test")
	s.recipient("nina@new.test", "250")
	id := idInReply.FindStringSubmatch(reply)
	if id == nil {
		t.Fatalf("no id in %q", reply)
	}
	story := s.awaitStory("refused for good", "why", id[1])
	for _, want := range []string{
		"Transaction " + id[1] + ": refused for good",
		"127.0.0.1:", " connected to 127.0.0.1:",
		"MAIL FROM:<mallory@bad.test>",
		"RCPT TO:<alice@example.org>",
		"rule blocked (reject, at " + s.file + ":",
		strings.TrimSpace(reply),
		"Rule blocked at " + s.file + ":",
		`when: mail.domain == "bad.test" and (helo.name startsWith "spam" or mail.local != "postmaster")`,
		`true     mail.domain == "bad.test": mail.domain is "bad.test"`,
		`false    helo.name startsWith "spam"`,
		"The rule would not have matched if\n    - one of these were so:\n      - mail.domain were not \"bad.test\" (it is \"bad.test\")\n      - mail.local were \"postmaster\" (it is \"mallory\")\n",
	} {
		if !strings.Contains(story, want) {
			t.Errorf("without %q:\n%s", want, story)
		}
	}

	bounce := "Your message could not be delivered:\n>>> " + strings.ToLower(reply) + "\nsorry\n"
	command := exec.Command("gatepost", "why", "-", "-c", s.file)
	command.Stdin = strings.NewReader(bounce)
	if output, err := command.CombinedOutput(); err != nil || !strings.Contains(string(output), "Transaction "+id[1]) {
		t.Errorf("a bounce: %v\n%s", err, output)
	}
	for _, query := range [][]string{{"why", "mallory@bad.test"}, {"why", "<MALLORY@bad.test>"}, {"why", "127.0.0.1"}, {"why", "550 it said (id " + id[1] + ")"}, {"why", strings.TrimSuffix(id[1], ".1")}} {
		if text, status := s.command(query...); status != 0 || !strings.Contains(text, "Transaction "+id[1]) {
			t.Errorf("%q: status %d\n%s", query, status, text)
		}
	}
	if text, status := s.command("why", "nobody@example.net"); status != 1 || !strings.Contains(text, "has nothing on that") {
		t.Errorf("of somebody else: status %d\n%s", status, text)
	}
	if text, status := s.command("why", "what?"); status != 1 || !strings.Contains(text, "there is no id in that") {
		t.Errorf("of nonsense: status %d\n%s", status, text)
	}
	watched := s.awaitStory("nina@new.test", "why", "nina@new.test")
	if !strings.Contains(watched, "rule watched (reject, at "+s.file) || !strings.Contains(watched, "matched, which was only watched") {
		t.Errorf("a rule that is only watched:\n%s", watched)
	}
}

// A transaction to the end: what was delivered, the recipient that was greylisted, the reply that was read.
func TestWhyOfADelivery(t *testing.T) {
	s := startServe(t, storyRules+"filters: {dkim: {enabled: true}}\n")
	c := s.dial()
	c.say("MAIL FROM:<a@good.test>", "250")
	reply := c.say("RCPT TO:<slow@example.org>", "451")
	c.say("RSET", "250")
	c.say("MAIL FROM:<a@good.test>", "250")
	c.say("RCPT TO:<bob@example.org>", "250")
	c.say("DATA", "354")
	c.say("Subject: hi\r\n\r\nhello\r\n.", "250")
	c.say("QUIT", "221")
	story := s.awaitStory("The client has read this reply", "why", "bob@example.org")
	for _, want := range []string{": accepted", "The message: 22 bytes", "reply of the backend:\n    250 ", "which queued it as ",
		"No rule that is enforced had anything against it, and the backend took it."} {
		if !strings.Contains(story, want) {
			t.Errorf("without %q:\n%s", want, story)
		}
	}
	story, _ = s.command("why", reply)
	for _, want := range []string{": refused for now", "Rule grey at " + s.file + ":", "Greylisting: not seen before; the first attempt was at 20",
		"Who tries again between 20", "rcpt.local were not \"slow\""} {
		if !strings.Contains(story, want) {
			t.Errorf("without %q:\n%s", want, story)
		}
	}
}

// A session that was refused before MAIL has its story as well.
func TestWhyOfARefusedGreeting(t *testing.T) {
	s := startServe(t, "rules:\n  - {name: rude, when: 'helo.name == \"spam.example\"', then: reject, at: helo, reply: 550 5.7.1 not with that name}\n")
	c := s.dial()
	reply := c.say("EHLO spam.example", "550 5.7.1 not with that name")
	c.say("QUIT", "221")
	c.conn.Close()
	story := s.awaitStory("Session ", "why", reply)
	for _, want := range []string{": refused for good", "EHLO spam.example", "Rule rude at " + s.file + ":", strings.TrimSpace(reply), `helo.name were not "spam.example"`} {
		if !strings.Contains(story, want) {
			t.Errorf("without %q:\n%s", want, story)
		}
	}
}

// After kill -9 the journal has everything up to the last second, and the next process begins where it ended.
func TestTheJournalSurvivesKill(t *testing.T) {
	s := startServe(t, storyRules)
	reply := s.recipient("mallory@bad.test", "550")
	time.Sleep(time.Second) // the bound that is promised
	s.signal(9)
	s.exit()
	id := idInReply.FindStringSubmatch(reply)[1]
	if text, status := s.command("why", id); status != 0 || !strings.Contains(text, "Transaction "+id) {
		t.Fatalf("status %d:\n%s", status, text)
	}
	s.run()
	s.recipient("eve@bad.test", "550")
	text := s.awaitStory("eve@bad.test", "journal")
	if first, second := strings.Index(text, "mallory@bad.test"), strings.Index(text, "eve@bad.test"); first < 0 || second < first {
		t.Errorf("the oldest first:\n%s", text)
	}
}

// What a condition found in a local part that the journal does not have is not told as false.
func TestWhyWithDisguisedAddresses(t *testing.T) {
	for _, mode := range []string{"keyed", "cut"} {
		t.Run(mode, func(t *testing.T) {
			s := startServe(t, `rules: [{name: gone, when: 'mail.local == "mallory" and mail.domain == "bad.test"', then: reject}]`+"\njournal: {addresses: "+mode+"}\n")
			id := idInReply.FindStringSubmatch(s.recipient("mallory@bad.test", "550"))
			if id == nil {
				t.Fatal("no id")
			}
			story := s.awaitStory("refused for good", "why", id[1])
			if !strings.Contains(story, "cannot be told any more    mail.local == \"mallory\"") || strings.Contains(story, "list files as they are now") ||
				!strings.Contains(story, "The journal does not have local parts of addresses as they were (journal.addresses)") ||
				!strings.Contains(story, `true     mail.domain == "bad.test"`) {
				t.Errorf("%s", story)
			}
		})
	}
}

func TestJournalCommand(t *testing.T) {
	s := startServe(t, storyRules+"journal: {addresses: keyed}\n")
	s.recipient("mallory@bad.test", "550")
	s.recipient("nina@new.test", "250")
	s.awaitStory("@new.test", "journal", "--where", `kind == "transaction" and "watched" in observed`)
	text, _ := s.command("journal", "--since", "1h", "--where", `verdict == "reject" and reply.code == 550 and rule == "blocked" and action == "reject"`, "--json")
	var entry journal.EntryJSON
	if err := json.Unmarshal([]byte(text), &entry); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if entry.Kind != "transaction" || entry.Rule == nil || entry.Rule.Name != "blocked" || entry.Reply.Code != 550 || !entry.Reply.Ours ||
		entry.Facts["mail"]["domain"] != "bad.test" || len(entry.Recipients) != 1 || entry.Recipients[0].Rule != "blocked" {
		t.Errorf("%+v", entry)
	}
	for _, name := range []string{"mallory", "nina", "alice@"} {
		all, _ := s.command("journal", "--json")
		if strings.Contains(all, name) {
			t.Errorf("%s is in a keyed journal:\n%s", name, all)
		}
	}
	if text, status := s.command("why", "mallory@bad.test"); status != 0 || !strings.Contains(text, "550") {
		t.Errorf("an address in a keyed journal: status %d\n%s", status, text)
	}
	if text, status := s.command("journal", "--where", `verdikt == "accept"`); status != 1 || !strings.Contains(text, "there is no fact \"verdikt\", did you mean verdict?") || !strings.Contains(text, "--where:1:1") {
		t.Errorf("a name that does not exist: status %d\n%s", status, text)
	}
	if text, status := s.command("journal", "--since", "soon"); status != 1 || !strings.Contains(text, "--since: \"soon\" is neither") {
		t.Errorf("a bad time: status %d\n%s", status, text)
	}
}

// The journal tells which message it was, unless it is told not to, and a reload is enough for that.
func TestAMessageIsFoundByItsDigest(t *testing.T) {
	s := startServe(t, "rules: []\n")
	send := func(sender string) (digest string) {
		t.Helper()
		c := s.dial()
		c.say("MAIL FROM:<"+sender+">", "250")
		c.say("RCPT TO:<alice@example.org>", "250")
		c.say("DATA", "354")
		c.say("Subject: "+sender+"\r\n\r\n..hello\r\n.", "250")
		c.say("QUIT", "221")
		return fmt.Sprintf("%x", sha256.Sum256([]byte("Subject: "+sender+"\r\n\r\n.hello\r\n")))
	}
	digest := send("nina@new.test")
	story := s.awaitStory("@new.test", "journal", "--where", `digest == "`+digest+`"`)
	if strings.Contains(story, "@else.test") {
		t.Error(story)
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.file, string(text)+"journal: {digest: false}\n")
	s.reload("the new configuration is in force")
	send("ann@else.test")
	s.awaitStory("@else.test", "journal", "--where", `mail.domain == "else.test" and not known(digest)`)
}

func TestJournalFollows(t *testing.T) {
	s := startServe(t, storyRules)
	command := exec.Command("gatepost", "journal", "-f", "-c", s.file, "--where", `verdict == "reject"`)
	lines := &logLines{changed: make(chan struct{})}
	command.Stdout, command.Stderr = lines, lines
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { command.Process.Kill(); command.Wait() }()
	s.recipient("nina@new.test", "250")
	s.recipient("mallory@bad.test", "550")
	deadline := time.After(patience)
	for {
		line, changed := lines.find("mallory@bad.test")
		if line != "" {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("it does not come:\n%s", lines.String())
		}
	}
}
