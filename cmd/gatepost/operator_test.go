package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"gatepost/proxy/admin"
)

// ask sends a request to the API of a running proxy.
func (s *served) ask(method, path, body string, into any) int {
	s.t.Helper()
	address := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(s.awaitLog("the admin pages are served"))[1]
	r, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		s.t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return response.StatusCode
}

const operatorRules = `rules:
  - {name: exceptions, when: 'exception.sender == "allowed"', then: accept}
  - {name: listed, when: 'in_list(mail.address, "bad")', then: reject, reply: 550 5.7.1 not you}
  - {name: newcomers, when: 'mail.domain == "new.example.net"', then: greylist}
`

func TestTheAPIOfARunningProxy(t *testing.T) {
	s := startServe(t, "admin: 127.0.0.1:0\n"+operatorRules)
	write(t, s.folder+"/lists/bad", "mallory@example.net\n")
	s.reload("the new configuration is in force")
	s.log.forgetNothing()
	s.recipient("mallory@example.net", "550")
	s.recipient("ann@new.example.net", "451")

	var found struct {
		Entries []struct{ ID, Verdict string }
		Error   string
	}
	where := "/api/journal?where=" + url.QueryEscape(`rule == "listed"`)
	for deadline := time.Now().Add(patience); len(found.Entries) == 0; time.Sleep(20 * time.Millisecond) {
		if status := s.ask("GET", where, "", &found); status != 200 || time.Now().After(deadline) {
			t.Fatalf("%d %+v", status, found)
		}
	}
	var story struct{ Chapters []struct{ Title string } }
	if s.ask("GET", "/api/journal/"+found.Entries[0].ID, "", &story); len(story.Chapters) < 4 || !strings.HasSuffix(story.Chapters[0].Title, "refused for good") {
		t.Errorf("%+v", story)
	}
	if status := s.ask("GET", "/api/journal?where=nonsense", "", &found); status != 422 || !strings.Contains(found.Error, "condition:1:1") {
		t.Errorf("%d %s", status, found.Error)
	}

	var in struct {
		Rules []struct {
			Name     string
			Enforced int
			Outcomes map[string]int
		}
		Lists []struct {
			Name    string
			Entries int
		}
		Sessions struct {
			Total  int
			Oldest []admin.OpenSession
		}
		Filters []admin.Filter
		Text    string
	}
	s.ask("GET", "/api/rules", "", &in)
	if len(in.Rules) != 3 || in.Rules[1].Name != "listed" || in.Rules[1].Enforced != 1 || in.Rules[1].Outcomes["reject"] != 1 || !strings.HasPrefix(in.Text, "# Rules") {
		t.Errorf("%+v", in)
	}
	s.ask("GET", "/api/lists", "", &in)
	if len(in.Lists) != 1 || in.Lists[0].Name != "bad" || in.Lists[0].Entries != 1 {
		t.Errorf("%+v", in.Lists)
	}
	open := s.dial()
	open.say("EHLO waits.example.net", "250")
	open.say("MAIL FROM:<waits@example.net>", "250")
	if s.ask("GET", "/api/now", "", &in); in.Sessions.Total != 3 {
		t.Errorf("%+v", in.Sessions)
	}
	if list := in.Sessions.Oldest; len(list) != 1 || list[0].Client != "127.0.0.1" || list[0].Name != "waits.example.net" || list[0].Stage != "mail" {
		t.Errorf("%+v", list)
	}
	open.conn.Close()
	for _, f := range in.Filters {
		if f.Name == "exception" && (f.OK == 0 || f.Late.OK != f.OK) {
			t.Errorf("%+v", f)
		}
	}

	var trial struct {
		Problems []string
		Report   struct{ Transactions, Differ, Unknown int }
	}
	s.ask("POST", "/api/rules/try", operatorRules, &trial)
	if len(trial.Problems) != 0 || trial.Report.Transactions != 2 || trial.Report.Differ != 0 {
		t.Errorf("its own rules: %+v", trial)
	}
	if s.ask("POST", "/api/rules/try", "rules: []\n", &trial); trial.Report.Differ+trial.Report.Unknown != 2 {
		t.Errorf("without rules: %+v", trial)
	}
	if s.ask("POST", "/api/rules/try", "rules: [{name: x, when: nonsense, then: accept}]\n", &trial); len(trial.Problems) != 1 {
		t.Errorf("%+v", trial)
	}

	var done struct {
		Unread bool
		Count  int
		Key    string
	}
	if status := s.ask("POST", "/api/exceptions", `{"action":"allow","value":"mallory@example.net","for":"1d","why":"asked"}`, &done); status != 200 || done.Unread {
		t.Errorf("%d %+v", status, done)
	}
	s.recipient("mallory@example.net", "250")
	if output, _ := s.command("allow", "list"); !strings.Contains(output, "admin page") || !strings.Contains(output, "asked") {
		t.Error(output)
	}
	if s.ask("DELETE", "/api/exceptions?action=allow&kind=sender&value=mallory@example.net", "", &done); done.Count != 1 {
		t.Errorf("%+v", done)
	}
	s.recipient("mallory@example.net", "550")
	s.ask("POST", "/api/greylist/pass", `{"query":"127.0.0.1 ann@new.example.net"}`, &done)
	s.recipient("ann@new.example.net", "250")
}

// handIn hands in a message.
func (s *served) handIn(helo, from, subject string) {
	s.t.Helper()
	c := s.dial()
	defer c.conn.Close()
	c.say("EHLO "+helo, "250")
	c.say("MAIL FROM:<"+from+">", "250")
	c.say("RCPT TO:<alice@example.org>", "250")
	c.say("DATA", "354")
	c.say("Subject: "+subject+"\r\n\r\nHello.\r\n.", "250")
	c.say("QUIT", "221")
}
