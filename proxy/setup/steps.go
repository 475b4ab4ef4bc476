package setup

import (
	"fmt"
	"net"
	"strings"

	"gatepost/proxy/backend"
)

// Steps is what the mail server needs, in shell commands, and the way back.
type Steps struct {
	// Lines are what the mail server's configuration has then; docs/mta shows the same.
	Lines string
	// Do moves the mail server to its new port, Undo back to port 25.
	Do, Undo []string
}

// Steps for the answers that were given. Where the mail server is of an unknown kind, there are none.
func (f *Found) Steps(a Answers) Steps {
	host, port, err := net.SplitHostPort(a.Backend)
	if err != nil {
		return Steps{}
	}
	switch a.MTA {
	case Postfix:
		return postfixSteps(f.service, a.Backend, a.ClientAddress)
	case Exim:
		return eximSteps(f.service, host, port)
	case OpenSMTPD:
		return openSMTPDSteps(f.service, host, port, a.Hostname)
	case Sendmail:
		return sendmailSteps(host, port)
	case Courier:
		return courierSteps(host, port)
	}
	return Steps{}
}

// saved is the name under which a file is kept for the way back.
func saved(file string) string { return file + ".before-gatepost" }

func save(file string) string { return fmt.Sprintf("cp -p %s %s", file, saved(file)) }

func restore(file string) string { return fmt.Sprintf("mv %s %s", saved(file), file) }

// here is a here-document.
func here(mode, file, text string) string {
	return fmt.Sprintf("cat %s%s <<'EOF'\n%s\nEOF", mode, file, strings.TrimSuffix(text, "\n"))
}

// Postfix

const masterCF = "/etc/postfix/master.cf"

func postfixSteps(s service, address string, way backend.ClientAddress) Steps {
	private := "y"
	if fields := strings.Fields(s.line); len(fields) >= 5 { // the column "chroot", which distributions have otherwise
		private = fields[4]
	}
	handOver := "smtpd_authorized_xclient_hosts=static:all"
	if way == backend.ProxyV1 || way == backend.ProxyV2 {
		handOver = "smtpd_upstream_proxy_protocol=haproxy"
	}
	line := fmt.Sprintf("%s inet n - %s - - smtpd", address, private)
	const limit = "smtpd_client_connection_count_limit=0"
	return Steps{
		Lines: line + "\n  -o " + handOver + "\n  -o " + limit,
		Do: []string{
			save(masterCF),
			"postconf -M# smtp/inet",
			fmt.Sprintf("postconf -M '%s/inet=%s'", address, line),
			fmt.Sprintf("postconf -P '%s/inet/%s'", address, handOver),
			fmt.Sprintf("postconf -P '%s/inet/%s'", address, limit),
			"postfix reload",
		},
		Undo: []string{restore(masterCF), "postfix reload"},
	}
}

// Exim

func eximSteps(s service, host, port string) Steps {
	proxy := fmt.Sprintf("hosts_proxy = ${if eq{$received_port}{%s}{%s}}\nsmtp_accept_max = 200\ndsn_advertise_hosts = *", port, host)
	steps := Steps{Lines: fmt.Sprintf("local_interfaces = %s.%s\n%s", host, port, proxy)}
	if !s.debian {
		steps.Do = []string{save(s.file), "# in the main section of " + s.file + ":\n" + steps.Lines, "exim -bV && systemctl restart exim"}
		steps.Undo = []string{restore(s.file), "systemctl restart exim"}
		return steps
	}
	macros, mode, undo := "/etc/exim4/exim4.conf.localmacros", ">>", restore("/etc/exim4/exim4.conf.localmacros")
	keep := "touch " + macros + " && " + save(macros)
	if s.split {
		macros, mode = "/etc/exim4/conf.d/main/00_local_gatepost", ">"
		keep, undo = "", "rm "+macros
	}
	steps.Do = []string{save(s.file)}
	if keep != "" {
		steps.Do = append(steps.Do, keep)
	}
	steps.Do = append(steps.Do,
		fmt.Sprintf("sed -i \"s/^dc_local_interfaces=.*/dc_local_interfaces='%s.%s'/\" %s", host, port, s.file),
		here(mode, macros, proxy),
		"update-exim4.conf && systemctl restart exim4")
	steps.Undo = []string{restore(s.file), undo, "update-exim4.conf && systemctl restart exim4"}
	return steps
}

// OpenSMTPD

func openSMTPDSteps(s service, host, port, hostname string) Steps {
	line := fmt.Sprintf("listen on %s port %s hostname %s proxy-v2", host, port, hostname)
	return Steps{
		Lines: line,
		Do: []string{save(s.file), "# in " + s.file + ", in the place of the line that listens on port 25:\n" + line,
			"smtpd -n -f " + s.file + " && systemctl restart opensmtpd"},
		Undo: []string{restore(s.file), "systemctl restart opensmtpd"},
	}
}

// sendmail

const sendmailMC = "/etc/mail/sendmail.mc"

func sendmailSteps(host, port string) Steps {
	lines := fmt.Sprintf("FEATURE(`no_default_msa')\nDAEMON_OPTIONS(`Name=MTA, Addr=%s, Port=%s')\ndefine(`confTO_IDENT', `0')", host, port)
	return Steps{
		Lines: lines,
		Do: []string{save(sendmailMC), save("/etc/mail/sendmail.cf"),
			"# in " + sendmailMC + ", in the place of the DAEMON_OPTIONS for port 25 (smtp):\n" + lines,
			"make -C /etc/mail && systemctl restart sendmail"},
		Undo: []string{restore(sendmailMC), restore("/etc/mail/sendmail.cf"), "systemctl restart sendmail"},
	}
}

// Courier

const courierFile = "/etc/courier/esmtpd"

// courierSteps removes settings and appends them anew, since the file that Courier comes with has some only in comments.
func courierSteps(host, port string) Steps {
	lines := fmt.Sprintf("ADDRESS=%s\nPORT=%s\nMAXDAEMONS=100\nMAXPERC=100\nMAXPERIP=100\nTARPIT=0", host, port)
	return Steps{
		Lines: lines,
		Do: []string{save(courierFile), "sed -i -E '/^(ADDRESS|PORT|MAXDAEMONS|MAXPERC|MAXPERIP|TARPIT)=/d' " + courierFile,
			here(">>", courierFile, lines), "systemctl restart courier"},
		Undo: []string{restore(courierFile), "systemctl restart courier"},
	}
}
