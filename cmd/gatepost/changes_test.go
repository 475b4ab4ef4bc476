package main

import (
	"encoding/json"
	"net/url"
	"os"
	"os/user"
	"regexp"
	"strings"
	"testing"
	"time"
)

// awaitJournal lists the journal until it shows a text.
func (s *served) awaitJournal(want string, args ...string) string {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		output, _ := s.command(append([]string{"journal"}, args...)...)
		if strings.Contains(output, want) {
			return output
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the journal has no %q:\n%s", want, output)
		}
	}
}

// What operators do, by command or on the pages, is in the journal with who did it, and is told of whom it concerns.
func TestWhatOperatorsDoIsJournalled(t *testing.T) {
	s := startServe(t, "admin: 127.0.0.1:0\n"+operatorRules+`  - {name: blocked, when: 'exception.client == "blocked"', then: reject}
  - {name: odd, when: 'header("Subject") contains "lottery"', then: quarantine}
`)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	do := func(args ...string) {
		t.Helper()
		if output, code := s.command(args...); code != 0 {
			t.Fatalf("%q: %s", args, output)
		}
	}
	var ignored any
	s.recipient("ann@new.example.net", "451")
	do("greylist", "pass", "127.0.0.1", "ann@new.example.net")
	do("greylist", "forget", "ann@new.example.net")
	do("bypass", "--for", "1h")
	do("bypass", "--off")
	s.handIn("mail.example.net", "win@example.net", "the lottery")
	kept := regexp.MustCompile(`[0-9A-Z]{13}\.1`).FindString(s.awaitJournal("quarantine", "--where", `verdict == "quarantine"`))
	do("quarantine", "release", kept)
	if status := s.ask("POST", "/api/exceptions", `{"action":"allow","value":"joe@example.com","for":"1d","why":"asked <b>"}`, &ignored); status != 200 {
		t.Fatal(status)
	}
	do("block", "add", "127.0.0.0/8", "--for", "2d", "--why", "a botnet")
	refused := s.recipient("mallory@example.net", "550")
	do("block", "remove", "127.0.0.0/8")
	s.awaitJournal("not blocked any more")

	listing := s.awaitJournal("gatepost started", "--where", `kind == "change"`)
	for _, want := range []string{
		"gatepost started, 5 rules in force", "greylisting: 127.0.0.1 ann@new.example.net was let pass by " + me.Username,
		"ann@new.example.net was forgotten by " + me.Username + " (1 mark of greylisting)", "rules were only watched by " + me.Username + " until", "bypass: ended by " + me.Username,
		"the message " + kept + " was released from quarantine by " + me.Username + " (delivered to 1;",
		"the sender joe@example.com was allowed by admin page, 127.0.0.1 until", "because: asked <b>",
		"the client 127.0.0.0/8 was blocked by " + me.Username + " until", "because: a botnet", "127.0.0.0/8 is not blocked any more: ended by " + me.Username,
	} {
		if !strings.Contains(listing, want) {
			t.Errorf("no %q in\n%s", want, listing)
		}
	}

	story, _ := s.command("why", "127.0.0.1")
	for _, want := range []string{"What operators have done", "ago: the client 127.0.0.0/8 was blocked by " + me.Username, "because: a botnet"} {
		if !strings.Contains(story, want) {
			t.Errorf("no %q in\n%s", want, story)
		}
	}
	if story, _ := s.command("why", refused); !strings.Contains(story, "Rule blocked") || !strings.Contains(story, "was blocked by "+me.Username) || strings.Contains(story, "joe@example.com") {
		t.Errorf("%s", story)
	}
	if story, _ := s.command("why", "joe@example.com"); !strings.Contains(story, "was allowed by admin page, 127.0.0.1") {
		t.Errorf("of whom nothing but a change is known:\n%s", story)
	}
	if story, _ := s.command("why", kept); !strings.Contains(story, "was released from quarantine by "+me.Username) {
		t.Errorf("%s", story)
	}

	var found struct {
		Entries []struct {
			ID, Kind, Verdict string
			Change            struct{ What, By, Kind, About, Why string }
		}
	}
	s.ask("GET", "/api/journal?where="+url.QueryEscape(`change == "block"`), "", &found)
	if len(found.Entries) != 1 || found.Entries[0].Change.By != me.Username || found.Entries[0].Change.About != "127.0.0.0/8" || found.Entries[0].Kind != "change" {
		t.Errorf("%+v", found)
	}
	var about struct {
		Stories []struct{ Entry struct{ ID, Kind string } }
	}
	s.ask("GET", "/api/why?about=joe@example.com", "", &about)
	if len(about.Stories) != 1 || about.Stories[0].Entry.Kind != "change" {
		t.Errorf("%+v", about)
	}
	lines, _ := s.command("journal", "--json", "--where", `change == "start"`)
	var start struct {
		Change struct {
			Rules []struct{ Name, Mode string }
		}
	}
	if err := json.Unmarshal([]byte(lines), &start); err != nil || len(start.Change.Rules) != 5 || start.Change.Rules[1].Name != "listed" {
		t.Errorf("%v: %s", err, lines)
	}
}

// A reload is told with the rules that it brought.
func TestAReloadIsJournalled(t *testing.T) {
	s := startServe(t, operatorRules)
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.file, strings.Replace(string(text), "name: listed,", "name: listed, mode: observe,", 1))
	s.reload("the new configuration is in force")
	s.awaitJournal("the configuration was loaded anew, 3 rules in force", "--where", `change == "reload"`)
}
