package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// ask puts the session's questions:
//
//	why id                by the id in the reply; "why session": without the transaction's number
//	why bounce            by a bounce, as a program would send it, on standard input
//	why client            by the client's address
//	why address ADDRESS   by a sender or a recipient
//	verdict WORDS         how it came out
//	rule NAME LINE        the rule that decided, and the line of the configuration; "rule none": none did
//	default NAME          the rule that decided, one of the default rules
//	matched NAME LINE     a rule that matched besides; watched NAME LINE: one that was only watched
//	says TEXT             a part of the story, lines joined by \n; "not TEXT": what is no part of it
//
// The first story that is told must fulfil all of it.
func (s *corpusSession) ask() {
	if len(s.wants) == 0 {
		s.t.Fatal("nothing is asked")
	}
	story := s.story(s.wants[0])
	place := s.site.file + ":"
	check := func(want, where string) {
		if !strings.Contains(story, want) {
			s.t.Errorf("%s: without %q:\n%s", where, want, story)
		}
	}
	if s.reply != "" && !strings.Contains(story, replyInStory(s.reply)) {
		s.t.Errorf("without the reply %q:\n%s", s.reply, story)
	}
	for _, want := range s.wants[1:] {
		kind, rest, _ := strings.Cut(want, " ")
		name, line, _ := strings.Cut(rest, " ")
		switch kind {
		case "verdict":
			head, _, _ := strings.Cut(story, "\n")
			if !strings.HasSuffix(head, ": "+rest) {
				s.t.Errorf("want %s:\n%s", want, story)
			}
		case "rule":
			if rest == "none" {
				if strings.Contains(story, " decided: ") || strings.Contains(story, " accepted it: ") {
					s.t.Errorf("a rule decided:\n%s", story)
				}
				continue
			}
			s.decided(story, name, place+line)
		case "default":
			s.decided(story, name, defaultPlace(s.t, name))
		case "matched", "watched":
			check(map[string]string{"matched": ", at " + place + line + ") matched\n", "watched": ", at " + place + line + ") matched, which was only watched\n"}[kind], want)
			check("  rule "+name+" (", want)
		case "says":
			check(strings.ReplaceAll(rest, `\n`, "\n"), want)
		case "not":
			if strings.Contains(story, rest) {
				s.t.Errorf("%s:\n%s", want, story)
			}
		default:
			s.t.Fatalf("what is %q?", want)
		}
	}
}

// defaultPlace looks a rule up in the file of the default rules.
func defaultPlace(t *testing.T, name string) string {
	text, err := os.ReadFile("../../rules/default.yaml")
	if err != nil {
		t.Fatal(err)
	}
	before, _, found := strings.Cut(string(text), "\n- name: "+name+"\n")
	if !found {
		t.Fatalf("there is no default rule %s", name)
	}
	return fmt.Sprintf("rules/default.yaml:%d", strings.Count(before, "\n")+2)
}

// decided demands that a rule and no other is named for the decision.
func (s *corpusSession) decided(story, name, place string) {
	s.t.Helper()
	found := false
	for line := range strings.Lines(story) {
		if !strings.Contains(line, " decided: ") && !strings.Contains(line, " accepted it: ") {
			continue
		}
		if !strings.HasPrefix(line, "  Rule "+name+" at "+place+" ") {
			s.t.Errorf("want %s at %s:\n%s", name, place, story)
		}
		found = true
	}
	if !found {
		s.t.Errorf("no rule decided, want %s at %s:\n%s", name, place, story)
	}
}

// story asks and returns the first story.
func (s *corpusSession) story(question string) string {
	arguments, input := s.question(question), ""
	if strings.HasSuffix(question, " bounce") {
		arguments, input = []string{"-"}, "Your message could not be delivered.\r\n\r\n<ann@example.org>: host mx.example.org said:\r\n    "+
			strings.ReplaceAll(strings.TrimSpace(s.reply), "\r\n", "\r\n    ")+"\r\n    (in reply to a command)\r\n"
	}
	command := exec.Command("gatepost", append([]string{"why", "-c", s.site.file}, arguments...)...)
	command.Stdin = strings.NewReader(input)
	output, err := command.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%q: %v\n%s", arguments, err, output)
	}
	text := string(output)
	for _, head := range []string{"\n\nTransaction ", "\n\nSession ", "\n\nEarlier "} {
		if end := strings.Index(text, head); end >= 0 {
			text = text[:end+1]
		}
	}
	return text
}

func (s *corpusSession) question(text string) []string {
	_, how, _ := strings.Cut(text, " ")
	how, address, _ := strings.Cut(how, " ")
	switch how {
	case "id", "session", "bounce":
		id := idsIn(s.reply)
		if len(id) != 1 {
			s.t.Fatalf("no id in %q", s.reply)
		}
		if how == "session" {
			id[0], _, _ = strings.Cut(id[0], ".")
		}
		return id
	case "client":
		return []string{s.client}
	case "address":
		return []string{address}
	}
	s.t.Fatalf("what is %q?", text)
	return nil
}

// replyInStory is a reply as it came over the wire, in the form in which a story shows it.
func replyInStory(reply string) string {
	lines := strings.Split(strings.TrimSuffix(reply, "\r\n"), "\r\n")
	return ":\n    " + strings.Join(lines, "\n    ") + "\n"
}
