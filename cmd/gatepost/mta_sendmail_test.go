//go:build mta

package main

import (
	"fmt"
	"strings"
	"testing"

	"gatepost/proxy/backend"
)

//mta:packages sendmail-bin sendmail-cf m4 iproute2 sasl2-bin libsasl2-modules

var sendmail = mta{
	name:    "sendmail",
	users:   []string{"smmta:115", "smmsp:116"},
	ways:    []backend.ClientAddress{backend.NoAddress, backend.Transparent},
	start:   startSendmail,
	log:     mtaSyslog,
	unknown: "550 5.1.1 <noone@example.org>... User unknown",
	content: refusal{refuseMe, "553 5.7.1 no such subject here"},
	lacks:   []string{"SMTPUTF8", "CHUNKING"},
}

// startSendmail delivers with a script, since sendmail itself knows no Maildir.
func startSendmail(t *testing.T, s *site) {
	s.write(t, "/etc/mail/test.mc", "include(`/usr/share/sendmail/cf/m4/cf.m4')\n"+
		"OSTYPE(`debian')\nDOMAIN(`debian-mta')\nundefine(`confHOST_STATUS_DIRECTORY')\n"+
		strings.NewReplacer("127.0.0.1", s.back.host, "10025", s.port()).Replace(documented(t, "sendmail", "Addr=127.0.0.1"))+
		"FEATURE(`nocanonify')\nFEATURE(`accept_unresolvable_domains')\n"+
		"define(`confDOMAIN_NAME', `mx.example.org')\ndefine(`QUEUE_DIR', `/var/spool/mqueue')\n"+
		"define(`LOCAL_MAILER_PATH', `/bin/sh')\ndefine(`LOCAL_MAILER_FLAGS', `SPhn9')\n"+
		"define(`LOCAL_MAILER_ARGS', `sh /usr/local/bin/to-maildir "+s.box+" $u')\n"+
		s.inputFilter()+s.signIn(t)+
		"MAILER(`local')\nMAILER(`smtp')\nLOCAL_CONFIG\nCwexample.org\nHSubject: $>CheckSubject\n"+
		"LOCAL_RULESETS\nSCheckSubject\nRrefuse me\t$#error $@ 5.7.1 $: \"553 no such subject here\"\n")
	s.write(t, "/usr/local/bin/to-maildir", "umask 077\nmkdir -p $1/tmp $1/new\ncat >$1/tmp/$$ && mv $1/tmp/$$ $1/new/$$\n")
	s.write(t, "/etc/mail/aliases", "")
	s.write(t, "/etc/mail/local-host-names", "")
	s.write(t, "/etc/mail/trusted-users", "")
	s.emptyFolder(t, "/var/spool/mqueue", "root")
	s.emptyFolder(t, "/var/run/sendmail/mta", "root")
	s.emptyFolder(t, "/var/lib/sendmail", "root")
	s.call(t, "chmod 700 /var/spool/mqueue; m4 /etc/mail/test.mc >/etc/mail/sendmail.cf")
	s.serve(t, "/usr/libexec/sendmail/sendmail -bD -C /etc/mail/sendmail.cf &")
}

// signIn has sendmail offer TLS and AUTH where it calls a milter. It reads no password file that others may read.
func (s *site) signIn(t *testing.T) string {
	if s.milter == "" {
		return ""
	}
	s.write(t, "/etc/mail/sasl/Sendmail.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\nsasldb_path: /etc/mail/sasl/users\n")
	s.call(t, fmt.Sprintf("rm -f /etc/mail/sasl/users; echo %q | saslpasswd2 -p -c -f /etc/mail/sasl/users -u example.org %s; "+
		"chmod 600 /etc/mail/sasl/users; chmod 700 /etc/mail/sasl", userPassword, userName))
	return "define(`confSERVER_CERT', `" + s.certificate + "/cert.pem')\ndefine(`confSERVER_KEY', `" + s.certificate + "/key.pem')\n" +
		"define(`confCACERT', `" + s.certificate + "/cert.pem')\ndefine(`confCACERT_PATH', `" + s.certificate + "')\n" +
		"define(`confSASL_CONFIG_PATH', `/etc/mail/sasl')\ndefine(`confAUTH_REALM', `example.org')\n" +
		"define(`confAUTH_MECHANISMS', `PLAIN LOGIN')\n"
}

// inputFilter has sendmail call the milter, and defer mail without it.
func (s *site) inputFilter() string {
	if s.milter == "" {
		return ""
	}
	return "INPUT_MAIL_FILTER(`gatepost', `S=" + s.milter + ", F=T, T=S:30s;R:30s;E:5m')\n"
}
