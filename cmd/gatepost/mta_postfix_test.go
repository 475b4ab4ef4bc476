//go:build mta

package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gatepost/proxy/backend"
)

//mta:packages postfix sasl2-bin libsasl2-modules

var postfix = mta{
	name:     "Postfix",
	users:    []string{"postfix:110", "postdrop:112"},
	ways:     []backend.ClientAddress{backend.XClient, backend.ProxyV2, backend.ProxyV1},
	eager:    []backend.ClientAddress{backend.XClient, backend.ProxyV2},
	start:    startPostfix,
	log:      "/var/log/mail.log",
	unknown:  "550 5.1.1 <noone@example.org>: Recipient address rejected: User unknown in virtual mailbox table",
	content:  refusal{refuseMe, "550 5.7.1 no such subject here"},
	names:    true,
	verified: true,
	wrong:    "535 5.7.8 Error: authentication failed: authentication failure",
}

// What the users of the servers sign in with.
const (
	userName     = "alice"
	userPassword = "correct horse"
)

func startPostfix(t *testing.T, s *site) {
	s.write(t, "/etc/postfix/main.cf", `compatibility_level = 3.6
myhostname = mx.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
virtual_mailbox_domains = example.org
virtual_mailbox_base = `+s.box+`
virtual_mailbox_maps = texthash:/etc/postfix/vmailbox
virtual_uid_maps = static:1000
virtual_gid_maps = static:1000
virtual_minimum_uid = 100
header_checks = regexp:{{/^Subject: refuse me/ REJECT no such subject here}}
smtputf8_enable = yes
message_size_limit = 52428800
virtual_mailbox_limit = 0
mailbox_size_limit = 0
maillog_file = `+s.mta.log+`
maillog_file_prefixes = /var
smtpd_tls_security_level = may
smtpd_tls_cert_file = `+s.certificate+`/cert.pem
smtpd_tls_key_file = `+s.certificate+`/key.pem
smtpd_tls_ask_ccert = yes
smtpd_tls_CAfile = `+s.certificate+`/cert.pem
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = example.org
smtpd_milters = `+s.milter+`
non_smtpd_milters = `+s.milter+`
smtpd_recipient_restrictions = reject_unlisted_recipient `+s.policyServer+`
smtpd_data_restrictions = `+s.policyServer+`
smtpd_end_of_data_restrictions = `+s.policyServer+`
`)
	s.write(t, "/etc/postfix/vmailbox", "alice@example.org alice/\nälice@example.org alice/\nvmail@example.org alice/\n")
	s.write(t, "/etc/postfix/sasl/smtpd.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n")
	s.write(t, "/etc/postfix/master.cf", postfixServices(t, s))
	os.Remove(filepath.Join(s.root, "var/lib/postfix/master.lock"))
	s.emptyFolder(t, "/var/lib/postfix", "postfix")
	emptyQueues(t, s)
	s.call(t, fmt.Sprintf(`
echo %q | saslpasswd2 -p -c -u example.org %s
chown postfix /etc/sasldb2
postfix check 2>/dev/null || true # ownership of files that nobody uses here
`, userPassword, userName))
	s.serve(t, "/usr/lib/postfix/sbin/master -d -c /etc/postfix &")
}

// emptyQueues removes what the Postfix of a test before has not delivered: it would arrive here.
func emptyQueues(t *testing.T, s *site) {
	for _, queue := range []string{"maildrop", "incoming", "active", "deferred", "hold", "corrupt"} {
		err := filepath.WalkDir(filepath.Join(s.root, "var/spool/postfix", queue), func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type().IsRegular() {
				return os.Remove(path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// postfixServices is the distributed master.cf, with a service for Gatepost in place of the one at port 25.
func postfixServices(t *testing.T, s *site) string {
	dist, err := os.ReadFile(filepath.Join(s.root, "usr/share/postfix/master.cf.dist"))
	if err != nil {
		t.Fatal(err)
	}
	var services strings.Builder
	for line := range strings.Lines(string(dist)) {
		if strings.HasPrefix(line, "smtp      inet") {
			continue
		}
		if fields := strings.Fields(line); len(fields) >= 8 && !strings.ContainsAny(line[:1], "# \t") {
			fields[4] = "n" // no second chroot
			line = strings.Join(fields, " ") + "\n"
		}
		services.WriteString(line)
	}
	handOver := "smtpd_upstream_proxy_protocol"
	if s.way == backend.XClient {
		handOver = "smtpd_authorized_xclient_hosts"
	}
	services.WriteString(strings.NewReplacer("127.0.0.1:10025", s.address, "n - y", "n - n").Replace(documented(t, "postfix", handOver)))
	forbidden := "yes"
	if s.eager {
		forbidden = "no"
	}
	for _, line := range []string{"  -o smtpd_forbid_unauth_pipelining=" + forbidden, "  -o smtpd_sasl_auth_enable=yes",
		"  -o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject_unauth_destination"} {
		services.WriteString(line + "\n")
	}
	return services.String()
}
