package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatepost/filters/filtertest/suites"
)

// judged is what `eval --json` says, as a program that calls it sees it.
type judged struct {
	Verdict string
	Facts   map[string]map[string]any
}

// text is a fact; "null" if it is absent.
func (j *judged) text(group, name string) string {
	value, there := j.Facts[group][name]
	switch {
	case !there:
		return "missing"
	case value == nil:
		return "null"
	}
	return fmt.Sprint(value)
}

// evalFolder has a configuration without rules: what is judged is the message alone.
func evalFolder(t *testing.T) string {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "gatepost.yaml"), "hostname: mx.example.org\ndomains: [example.org]\nbackend: 127.0.0.1:10025\nrules: []\n")
	return dir
}

// eval runs the command.
func eval(t *testing.T, dir string, zone []byte, message string, arguments ...string) (*judged, error) {
	t.Helper()
	write(t, filepath.Join(dir, "zone.json"), string(zone))
	write(t, filepath.Join(dir, "m.eml"), message)
	var out strings.Builder
	cmd := command()
	cmd.SetArgs(append([]string{"eval", "-c", filepath.Join(dir, "gatepost.yaml"), "--json", "--dns-zone", filepath.Join(dir, "zone.json"),
		"--rcpt", "joe@example.org", "--now", "2026-01-05T12:00:00Z", filepath.Join(dir, "m.eml")}, arguments...))
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		return nil, err
	}
	var j judged
	if err := json.Unmarshal([]byte(out.String()), &j); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	return &j, nil
}

const plainMessage = "From: ann@example.com\r\n\r\nx\r\n"

func TestEvalPrintsEveryFact(t *testing.T) {
	dir := evalFolder(t)
	zone := []byte(`{"example.com": [{"t": "TXT", "v": ["v=spf1 ip4:192.0.2.1 ", "-all"]}], "_dmarc.example.com": {"TXT": [["v=DMARC1; p=reject"]]},
		"slow.example": [{"t": "TIMEOUT"}], "_dmarc.slow.example": [{"t": "SERVFAIL"}]}`)
	j, err := eval(t, dir, zone, plainMessage, "--ip", "192.0.2.1", "--from", "ann@example.com", "--helo", "mail.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for fact, want := range map[string]string{
		"client.ip": "192.0.2.1", "client.name": "null", "mail.domain": "example.com", "mail.size": "null",
		"spf.result": "pass", "spf.helo_result": "none", "spf.wide": "false", "dkim.result": "none", "dkim.results": "[]", "dkim.domains": "[]",
		"arc.result": "none", "arc.instances": "0", "arc.sealers": "[]", "arc.trusted": "false",
		"dmarc.result": "pass", "dmarc.policy": "reject", "dmarc.record": "v=DMARC1; p=reject", "dmarc.aligned": "spf",
		"dnsbl.score":  "null", // no list is configured
		"message.size": fmt.Sprint(len(plainMessage)),
	} {
		group, name, _ := strings.Cut(fact, ".")
		if got := j.text(group, name); got != want {
			t.Errorf("%s: %s, want %s", fact, got, want)
		}
	}
	j, err = eval(t, dir, zone, "From: ann@slow.example\r\n\r\nx\r\n", "--ip", "192.0.2.1", "--from", "ann@slow.example")
	if err != nil || j.text("spf", "result") != "temperror" || j.text("dmarc", "result") != "temperror" {
		t.Errorf("a DNS that fails: %v, %v", j, err)
	}
}

// The suites from outside: not the functions of the filters, but the command, with its configuration, its zone file and
// its clock. What each case says in detail is looked at by the filters' own tests.
func TestSuitesThroughEval(t *testing.T) {
	for _, suite := range []struct {
		name string
		run  func(*testing.T, func(name string, ok bool, detail any))
	}{{"spf", evalSPF}, {"dkim", evalDKIM}, {"arc", evalARC}, {"dmarc", evalDMARC}} {
		t.Run(suite.name, func(t *testing.T) {
			passed, total := 0, 0
			suite.run(t, func(name string, ok bool, detail any) {
				if total++; ok {
					passed++
				} else {
					t.Errorf("%s: %v", name, detail)
				}
			})
			if total == 0 {
				t.Error("nothing was run")
			}
			fmt.Printf("suite eval/%s: %d/%d\n", suite.name, passed, total)
		})
	}
}

// notPaths are cases whose sender is no address that MAIL takes (RFC 5321, 4.1.2): it would be refused before SPF.
var notPaths = map[string]bool{"toolonglabel": true, "emptylabel": true, "nolocalpart": true, "dorky-sentinel": true}

func evalSPF(t *testing.T, report func(string, bool, any)) {
	var groups []struct {
		Zone  json.RawMessage
		Tests []struct {
			ID, Helo, IP, MailFrom string
			Result                 []string
		}
	}
	suites.ReadJSON(t, "spf/rfc7208.json", &groups)
	dir := evalFolder(t)
	for _, g := range groups {
		for _, test := range g.Tests {
			j, err := eval(t, dir, g.Zone, plainMessage, "--ip", test.IP, "--helo="+test.Helo, "--from="+test.MailFrom)
			switch {
			case notPaths[test.ID]:
				if err == nil || !strings.HasPrefix(err.Error(), "--from: ") {
					t.Errorf("%s: %v", test.ID, err)
				}
			case err != nil:
				report(test.ID, false, err)
			default:
				result := j.text("spf", "result")
				report(test.ID, slices.Contains(test.Result, result), result)
			}
		}
	}
}

func evalDKIM(t *testing.T, report func(string, bool, any)) {
	var cases []struct {
		ID, File string
		Modern   string `json:"expect_modern"`
	}
	folder := suites.Path(t, "dkim/mail-dkim")
	suites.ReadJSON(t, "dkim/mail-dkim/cases.json", &cases)
	zone, err := os.ReadFile(filepath.Join(folder, "zone.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := evalFolder(t)
	for _, test := range cases {
		message, err := os.ReadFile(filepath.Join(folder, test.File))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.ToLower(string(message)), "dkim-signature") {
			continue // DomainKeys (RFC 4870) is historic
		}
		j, err := eval(t, dir, zone, string(message))
		if err != nil {
			report(test.ID, false, err)
			continue
		}
		result := j.text("dkim", "result")
		report(test.ID, strings.HasPrefix(test.Modern, "pass") == (result == "pass"), result)
		for _, list := range []string{"signers", "selectors", "algorithms", "key_bits"} {
			one, _ := j.Facts["dkim"]["results"].([]any)
			other, _ := j.Facts["dkim"][list].([]any)
			if len(one) != len(other) || one == nil {
				t.Errorf("%s: results %v, %s %v", test.ID, one, list, other)
			}
		}
	}
}

func evalARC(t *testing.T, report func(string, bool, any)) {
	var groups []struct {
		Zone  json.RawMessage
		Tests []struct{ ID, Message, CV string }
	}
	suites.ReadJSON(t, "arc/validation-half.json", &groups)
	dir := evalFolder(t)
	for _, g := range groups {
		for _, test := range g.Tests {
			want := strings.ToLower(test.CV)
			if want == "" {
				want = "fail" // a seal says cv=fail: there is nothing left to validate (RFC 8617, 5.2)
			}
			j, err := eval(t, dir, g.Zone, test.Message)
			if err != nil {
				report(test.ID, false, err)
				continue
			}
			report(test.ID, j.text("arc", "result") == want, j.Facts["arc"])
		}
	}
}

// evalDMARC runs the cases of one author that no signature authenticates: those that a message alone can show. Where the
// suite has lost the zone, its result says what was published.
func evalDMARC(t *testing.T, report func(string, bool, any)) {
	var cases []struct {
		Name  string
		Calls []struct {
			In struct {
				HeaderFrom              any
				SPFDomains, DKIMDomains []struct{ Domain string }
			}
			Zone   json.RawMessage
			Result *struct{ Result, Policy, P, SP, Domain string } `json:"mailauth_result"`
		}
	}
	suites.ReadJSON(t, "dmarc/mailauth-dmarc-verify.json", &cases)
	dir := evalFolder(t)
	for _, c := range cases {
		for _, call := range c.Calls {
			author, single := call.In.HeaderFrom.(string)
			if !single || !strings.Contains(author, "@") || len(call.In.DKIMDomains) > 0 || len(call.In.SPFDomains) > 1 || call.Result == nil || call.Result.P == "" {
				continue
			}
			zone := map[string]any{}
			if len(call.Zone) > 0 && string(call.Zone) != "null" {
				if err := json.Unmarshal(call.Zone, &zone); err != nil {
					t.Fatal(err)
				}
			} else {
				record := "v=DMARC1; p=" + call.Result.P + "; sp=" + call.Result.SP
				if strings.Contains(c.Name, "aspf=s") {
					record += "; aspf=s"
				}
				zone["_dmarc."+call.Result.Domain] = map[string]any{"TXT": []string{record}}
			}
			arguments := []string{"--ip", "192.0.2.1"}
			for _, d := range call.In.SPFDomains {
				zone[d.Domain] = map[string]any{"TXT": []string{"v=spf1 ip4:192.0.2.1 -all"}}
				arguments = append(arguments, "--from", "bounce@"+d.Domain)
			}
			data, err := json.Marshal(zone)
			if err != nil {
				t.Fatal(err)
			}
			j, err := eval(t, dir, data, "From: "+author+"\r\n\r\nx\r\n", arguments...)
			if err != nil {
				report(c.Name, false, err)
				continue
			}
			result, policy := j.text("dmarc", "result"), j.text("dmarc", "policy")
			report(c.Name, result == call.Result.Result && policy == call.Result.Policy, j.Facts["dmarc"])
		}
	}
}
