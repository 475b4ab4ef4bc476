package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// page asks the admin server of a running proxy.
func (s *served) page(scheme, path, password string) (status int, text string) {
	s.t.Helper()
	address := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(s.awaitLog("the admin pages are served"))[1]
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	client := &http.Client{Transport: transport, Timeout: patience}
	r, err := http.NewRequest("GET", scheme+"://"+address+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if password != "" {
		r.SetBasicAuth("prometheus", password)
	}
	response, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestMetricsOfARunningProxy(t *testing.T) {
	s := startServe(t, blocked("mallory@example.net")+"admin: 127.0.0.1:0\n")
	s.recipient("mallory@example.net", "550 5.7.1 not you")
	s.awaitLog("verdict=reject")
	status, text := s.page("http", "/metrics", "")
	for _, want := range []string{
		`gatepost_transactions_total{verdict="reject"} 1`, `gatepost_rule_matches_total{mode="enforced",rule="blocked"} 1`,
		`gatepost_sessions_total 1`, `gatepost_config_reloads_total{result="success"} 1`, `gatepost_build_info{goversion="go`,
		`gatepost_recipients_total{by="gatepost",result="refused"} 1`, "process_open_fds ", "go_goroutines ",
		`gatepost_backend_up{backend="` + s.backend.Address() + `",use="mail"} 1`,
	} {
		if status != 200 || !strings.Contains(text, "\n"+want) {
			t.Errorf("%d, without %q:\n%s", status, want, text)
		}
	}
	if strings.Contains(text, "mallory") || strings.Contains(text, "client.example.net") {
		t.Error("what a client says is a label")
	}
	if status, text := s.page("http", "/ready", ""); status != 200 || text != "ready\n" {
		t.Errorf("ready: %d %q", status, text)
	}

	started := s.awaitLog("the admin pages are served")
	s.configure(settingsWithout("admin") + "nonsense: 1\n")
	s.reload("the new configuration is refused")
	s.log.forgetNothing()
	if _, text := s.page("http", "/metrics", ""); !strings.Contains(text, "gatepost_config_last_reload_successful 0\n") {
		t.Errorf("a configuration that was refused is not told, %s", started)
	}
	s.backend.Close()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		s.recipientOrNot("ann@example.net")
		if status, text := s.page("http", "/ready", ""); status == 503 && strings.Contains(text, "no backend for mail is up") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("ready without a backend: %d %q", status, text)
		}
	}
	if status, _ := s.page("http", "/health", ""); status != 200 {
		t.Errorf("health is not about backends: %d", status)
	}
}

func TestTheAdminPasswordOnARunningProxy(t *testing.T) {
	command := exec.Command("gatepost", "admin", "password")
	command.Stdin = strings.NewReader("correct horse\n")
	hash, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	certificate(t, folder, "localhost")
	s := startServe(t, "admin: {address: '127.0.0.1:0', certificate: "+filepath.Join(folder, "cert.pem")+", key: "+filepath.Join(folder, "key.pem")+
		", password: '"+strings.TrimSpace(string(hash))+"'}\n")
	for password, want := range map[string]int{"": 401, "wrong horse": 401, "correct horse": 200} {
		if status, _ := s.page("https", "/metrics", password); status != want {
			t.Errorf("%q: %d, want %d", password, status, want)
		}
	}
	s.signal(15)
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if strings.Contains(s.log.String(), "horse") {
		t.Error("a password is in the log")
	}
}

// Mail does not wait for operators.
func TestAnAdminAddressThatIsTaken(t *testing.T) {
	first := startServe(t, "admin: 127.0.0.1:0\n")
	address := regexp.MustCompile(`address=(\S+)`).FindStringSubmatch(first.awaitLog("the admin pages are served"))[1]
	second := startServe(t, "admin: "+address+"\nrules: []\n")
	second.awaitLog("the admin address cannot be had; it is tried again")
	second.recipient("ann@example.net", "250")
}

// While sessions finish, load balancers are told to go elsewhere.
func TestNotReadyWhileEnding(t *testing.T) {
	s := startServe(t, "admin: 127.0.0.1:0\nrules: []\n")
	if status, text := s.page("http", "/ready", ""); status != 200 {
		t.Fatalf("%d %q", status, text)
	}
	c := s.dial()
	c.say("MAIL FROM:<ann@example.net>", "250")
	s.signal(15)
	s.awaitLog("no new sessions")
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if status, text := s.page("http", "/ready", ""); status == 503 && strings.Contains(text, "gatepost is ending") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("%d %q", status, text)
		}
	}
	c.say("RCPT TO:<alice@example.org>", "250")
	c.say("RSET", "")
	if status := s.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
