//go:build mta

package main

import (
	"path/filepath"
	"strings"
	"testing"

	"gatepost/proxy/backend"
)

//mta:packages exim4-daemon-heavy

var exim = mta{
	name:     "Exim",
	users:    []string{"Debian-exim:111"},
	ways:     []backend.ClientAddress{backend.ProxyV2, backend.ProxyV1},
	start:    startExim,
	log:      "/var/log/exim4/mainlog",
	unknown:  "550 no such person at example.org",
	content:  refusal{refuseMe, "550 no such subject here"},
	lacks:    []string{"ENHANCEDSTATUSCODES"},
	verified: true,
	wrong:    "535 Incorrect authentication data",
}

func startExim(t *testing.T, s *site) {
	s.write(t, "/etc/exim4/exim4.conf", `primary_hostname = mx.example.org
`+strings.ReplaceAll(documented(t, "exim", "hosts_proxy"), "10025", s.port())+`exim_user = Debian-exim
exim_group = Debian-exim
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
message_size_limit = 50M
tls_advertise_hosts = *
tls_certificate = `+s.certificate+`/cert.pem
tls_privatekey = `+s.certificate+`/key.pem
log_file_path = /var/log/exim4/%slog
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = acl_data

begin acl
acl_rcpt:
  accept  authenticated = *
  deny    domains = example.org
          !local_parts = alice : postmaster : älice
          message = no such person at example.org
  accept  domains = example.org
  deny    message = relay not permitted
acl_data:
  deny    condition = ${if eq{$h_subject:}{refuse me}}
          message = no such subject here
  accept

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${if def:tls_in_cipher}
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{`+userName+`}}{eq{$auth3}{`+userPassword+`}}}}
  server_set_id = $auth2

begin routers
mailboxes:
  driver = accept
  domains = example.org
  transport = maildir

begin transports
maildir:
  driver = appendfile
  directory = `+s.box+`/alice
  maildir_format
  create_directory
  delivery_date_add = false
  envelope_to_add = false
  return_path_add = true
  user = vmail
  group = vmail
`)
	chown(t, filepath.Join(s.root, s.certificate, "key.pem"), "Debian-exim")
	s.emptyFolder(t, "/var/spool/exim4", "Debian-exim")
	s.emptyFolder(t, "/var/log/exim4", "Debian-exim")
	s.serve(t, "exim4 -bdf -q30m &")
}
