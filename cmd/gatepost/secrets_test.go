package main

import (
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/http"
	"net/smtp"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatepost/proxy/admin"
	"gatepost/proxy/backend/backendtest"
)

// What users and operators keep to themselves is shown nowhere: not in the log, the journal and what is told of it, on the
// pages and in the API, in `gatepost config` and `gatepost doctor`.
func TestSecretsAreNowhere(t *testing.T) {
	const theirs, ours = "open-sesame-17", "correct horse battery"
	hash, err := admin.Hash(ours)
	if err != nil {
		t.Fatal(err)
	}
	backend, err := backendtest.Start(backendtest.Behaviour{
		Domains: []string{"example.org"}, Keywords: append([]string{"AUTH PLAIN"}, backendtest.PostfixKeywords...),
		Answer: func(_ *backendtest.Session, line string) string {
			if strings.HasPrefix(line, "AUTH ") {
				return "235 2.7.0 Welcome"
			}
			return ""
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.Close)
	s := &served{t: t, folder: t.TempDir(), backend: backend}
	certificate(t, s.folder, "mx.example.org")
	s.file = filepath.Join(s.folder, "gatepost.yaml")
	s.configure(settingsWithout("admin") + "admin: {address: '127.0.0.1:0', password: '" + hash + "'}\n" +
		"rules: [{name: seen, when: 'helo.user == \"anna\"', then: tag, header: 'X-User: {helo.user}'}]\n" +
		"listen:\n  - {address: '127.0.0.1:0', certificate: cert.pem, key: key.pem, submission: on}\n")
	s.run()

	c, err := smtp.Dial(s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	host, _, _ := net.SplitHostPort(s.address)
	say := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	say(c.StartTLS(&tls.Config{InsecureSkipVerify: true}))
	say(c.Auth(smtp.PlainAuth("", "anna", theirs, host)))
	say(c.Mail("anna@example.org"))
	say(c.Rcpt("bob@example.org"))
	w, err := c.Data()
	say(err)
	_, err = w.Write([]byte("Subject: x\r\n\r\nhello\r\n"))
	say(err)
	say(w.Close())
	say(c.Quit())

	address := "http://" + regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(s.awaitLog("the admin pages are served"))[1]
	for _, guess := range []string{ours, "wrong-" + ours} {
		response, err := http.PostForm(address+"/login", map[string][]string{"password": {guess}})
		say(err)
		response.Body.Close()
	}
	shown := map[string]string{"why": s.awaitStory("accepted", "why", "anna@example.org")}
	for _, page := range []string{"/", "/search", "/rules", "/greylist", "/exceptions", "/quarantine", "/lists", "/learned", "/configuration",
		"/why?about=anna@example.org", "/api/now", "/api/journal", "/api/configuration", "/metrics"} {
		_, shown[page] = s.page("http", page, ours)
	}
	for _, command := range [][]string{{"journal", "--json"}, {"journal"}, {"config"}, {"doctor"}, {"check"}, {"why", "127.0.0.1"}} {
		shown[strings.Join(command, " ")], _ = s.command(command...)
	}
	shown["the log"] = s.log.String()
	for where, text := range shown {
		if text == "" {
			t.Errorf("%s shows nothing", where)
		}
		for _, secret := range []string{theirs, ours, hash, hash[len(hash)-20:],
			base64.StdEncoding.EncodeToString([]byte("\x00anna\x00" + theirs)), base64.StdEncoding.EncodeToString([]byte("prometheus:" + ours))} {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %q:\n%s", where, secret, text)
			}
		}
	}
	if !strings.Contains(shown["journal --json"], `"user":"anna"`) {
		t.Errorf("nobody has signed in:\n%s", shown["journal --json"])
	}
}
