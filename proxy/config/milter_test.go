package config

import (
	"strings"
	"testing"

	"gatepost/filters/all"
	"gatepost/filters/filtertest"
)

func TestMilterAlone(t *testing.T) {
	c, problems := Parse("t.yaml", []byte("domains: [example.org]\nmilter:\n  - address: unix:/run/gatepost/milter.sock\n"), all.Specs())
	if c == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(c.Listen) > 0 || len(c.Milter) != 1 || c.Milter[0].Mode != "0660" || len(c.Milter[0].Submission) == 0 {
		t.Errorf("%+v %+v", c.Listen, c.Milter)
	}
	var written strings.Builder
	if err := c.Write(&written, nil); err != nil {
		t.Fatal(err)
	}
	again, problems := Parse("t.yaml", []byte(written.String()), all.Specs())
	if again == nil || len(again.Listen) > 0 || len(again.Milter) != 1 {
		t.Errorf("what is written cannot be read again: %v\n%s", problems, written.String())
	}
}

func TestPolicyServerAlone(t *testing.T) {
	c, problems := Parse("t.yaml", []byte("domains: [example.org]\npolicy_server:\n  - address: inet:127.0.0.1:10023\n"), all.Specs())
	if c == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	if len(c.Listen) > 0 || len(c.PolicyServer) != 1 || c.PolicyServer[0].Mode != "0660" {
		t.Errorf("%+v %+v", c.Listen, c.PolicyServer)
	}
}

func TestMilterBesideListen(t *testing.T) {
	c, problems := Parse("t.yaml", []byte("milter: [{address: \"inet:8891@127.0.0.1\"}]\nlisten: [{address: \":2525\"}]\nbackend: 127.0.0.1:25\n"), all.Specs())
	if c == nil || len(c.Listen) != 1 || len(c.Milter) != 1 {
		t.Fatal(problems)
	}
}

func TestMistakesInMilters(t *testing.T) {
	const good = "milter: [{address: unix:/run/a.sock}]\n"
	for _, test := range []struct{ text, want string }{
		{"milter: [{address: \"127.0.0.1:8891\"}]\n", `t.yaml:1:20: milter[0].address: "127.0.0.1:8891" is neither unix:/path nor inet:host:port`},
		{"milter: [{address: unix:relative}]\n", `milter[0].address: "unix:relative" does not name a file with its whole path`},
		{"milter: [{address: unix:/" + strings.Repeat("x", 110) + "}]\n", `is too long by 8 characters`},
		{"milter: [{address: unix:/run/a.sock, mode: rw}]\n", `t.yaml:1:44: milter[0].mode: "rw" is no mode`},
		{"milter: [{address: unix:/run/a.sock}, {address: unix:/run/a.sock}]\n", `milter[1].address: unix:/run/a.sock is that of milter[0] already`},
		{"milter: [{address: \"inet:127.0.0.1:1\", peers: [0.0.0.0/0]}]\n", `milter[0].peers[0]: 0.0.0.0/0 is everybody`},
		{"policy_server: [{address: unix:relative}]\n", `policy_server[0].address: "unix:relative" does not name a file with its whole path`},
		{"milter: [{address: unix:/run/a.sock}]\npolicy_server: [{address: unix:/run/a.sock}]\n", `policy_server[0].address: unix:/run/a.sock is that of milter[0] already`},
		{"policy_server: [{address: \"inet:127.0.0.1:1\", peers: [0.0.0.0/0]}]\n", `policy_server[0].peers[0]: 0.0.0.0/0 is everybody`},
		{"policy_server: [{address: unix:/run/a.sock}]\nrules:\n  - {name: body, when: 'message.size > 9', then: reject}\n", `t.yaml:3:12: warning: body as a policy server: it needs the message`},
		{"milter: []\nlisten: []\nbackend: mail:25\n", `listen: no address at all`},
		{good + "listen: [{address: \":25\"}]\n", `backend.address: the address of the MTA behind the proxy is missing`},
		{good + "rules:\n  - {name: away, when: 'mail.local == \"x\"', then: drop}\n", `t.yaml:3:12: warning: away as a milter: it answers 421`},
		{good + "rules:\n  - {name: talks, when: 'earlytalker.talked', then: reject}\n", `t.yaml:3:12: warning: talks as a milter: the MTA greets the client`},
		{good + "rules:\n  - {name: tar, when: 'client.port == 1', then: slow, delay: 30s, at: connect}\n", `t.yaml:3:12: warning: tar as a milter: the answer is held back for 8s and not 30s`},
	} {
		c, problems := Parse("t.yaml", []byte(test.text), all.Specs())
		if c != nil {
			_, more := c.Compile(all.Specs(), filtertest.NewEnv(filtertest.NewZone()))
			problems = append(problems, more...)
		}
		if !strings.Contains(problems.Error(), test.want) {
			t.Errorf("%q:\n%v\nwant %s", test.text, problems, test.want)
		}
	}
}
