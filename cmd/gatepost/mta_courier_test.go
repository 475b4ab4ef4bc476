//go:build mta

package main

import (
	"strings"
	"testing"

	"gatepost/proxy/backend"
)

//mta:packages courier-mta iproute2

var courier = mta{
	name:    "Courier",
	users:   []string{"courier:117"},
	ways:    []backend.ClientAddress{backend.NoAddress, backend.Transparent},
	start:   startCourier,
	log:     mtaSyslog,
	unknown: "550 User <noone> unknown",
	content: refusal{header + "X-Long: " + strings.Repeat("x", 6000) + "\r\n\r\nx\r\n", "534 Message header size exceeds policy limit."},
	lacks:   []string{"ENHANCEDSTATUSCODES", "CHUNKING"},
}

func startCourier(t *testing.T, s *site) {
	for name, content := range map[string]string{
		"me": "mx.example.org\n", "defaultdomain": "example.org\n", "locals": "localhost\nexample.org\n", "esmtpacceptmailfor": "example.org\n",
		"dsnfrom": "postmaster@example.org\n", "sizelimit": "52428800\n",
		"aliases/system": "postmaster: alice\n\xc3\xa4lice: alice\n", "smtpaccess/default": "127.0.0.1\tallow,RELAYCLIENT\n",
	} {
		s.write(t, "/etc/courier/"+name, content)
	}
	s.write(t, "/etc/environment", "")
	for _, folder := range []string{"", "/allfilters", "/filters", "/msgs", "/msgq", "/track", "/tmp", "/tmp/broken"} {
		s.emptyFolder(t, "/var/lib/courier"+folder, "courier")
	}
	s.emptyFolder(t, "/run/courier", "courier")
	s.emptyFolder(t, "/run/courier/authdaemon", "courier")
	for _, folder := range []string{"cur", "new", "tmp"} {
		s.emptyFolder(t, s.box+"/"+folder, "vmail")
	}
	// By default it answers errors 8, 16, 32 seconds late. One way is tested so.
	lines := strings.NewReplacer("192.0.2.26", s.back.host, "10025", s.port()).Replace(documented(t, "courier", "MAXPERIP"))
	if s.way != backend.Transparent {
		lines = strings.ReplaceAll(lines, "TARPIT=0\n", "")
	}
	s.write(t, "/etc/courier/esmtpd.gatepost", lines+`
BOFHCHECKDNS=0
TCPDOPTS="-stderrlogger=/usr/sbin/courierlogger -noidentlookup -nodnslookup"
`)
	s.call(t, `
chown courier:courier /usr/lib/courier/courier/submitmkdir
chmod 4755 /usr/lib/courier/courier/submitmkdir
ln -sf makedat.courier /usr/bin/makedat
cd /etc/courier
for file in esmtpd courierd; do
	[ -e $file.dist ] || cp $file $file.dist
done
cat esmtpd.dist esmtpd.gatepost >esmtpd
{ cat courierd.dist; echo DEFAULTDELIVERY=`+s.box+`; } >courierd
makealiases
makesmtpaccess
`)
	s.serve(t, `
authdaemond start
courier start
esmtpd start
`)
}
