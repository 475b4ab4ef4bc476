package config

import (
	"strings"
	"testing"
)

// However the backend is written, a mistake in it is shown where it stands.
func TestMistakesInTheBackendHaveAPlace(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"domains: [example.org]\nbackend: mail\n", `t.yaml:2:10: backend.address: "mail" is neither host:port nor unix:/path`},
		{"backend: 127.0.0.1:24\n", `t.yaml:1:10: backend.address: port 24 is LMTP`},
		{"backend:\n  address: mail\n", `t.yaml:2:12: backend.address: "mail" is neither`},
		{"backend:\n  address: [mail]\n", `t.yaml:2:12: backend.address: "mail" is neither`},
		{"backend:\n  address: [mail:25, mail]\n", `t.yaml:2:22: backend.address[1]: "mail" is neither`},
		{"backend:\n  address:\n    - mail:25\n    - mail:25\n", `t.yaml:4:7: backend.address[1]: mail:25 is already in the list`},
		{"backend:\n  reuse: off\n", `t.yaml:2:3: backend.address: the address of the MTA behind the proxy is missing`},
		{"backend:\n  address: mail:25\n  client_address: none\n", `t.yaml:3:19: backend.client_address: none requires domains`},
	} {
		_, problems := Parse("t.yaml", []byte(test.text), nil)
		if !problems.Failed() || !strings.Contains(problems.Error(), test.want) {
			t.Errorf("%q:\n%v\nwant %s", test.text, problems, test.want)
		}
	}
}
