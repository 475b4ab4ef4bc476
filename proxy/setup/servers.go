package setup

import (
	"context"
	"strings"
)

// postfix asks postconf, which knows what is in force.
func (f *Found) postfix(ctx context.Context, s System) {
	get := func(name string) string {
		out, err := s.Run(ctx, "postconf", "-x", "-h", name)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(out)
	}
	f.Hostname = get("myhostname")
	if f.Hostname == "" {
		f.note("postconf did not answer: run this as root, or give --hostname and --domain")
	}
	for _, key := range []string{"mydestination", "virtual_mailbox_domains", "virtual_alias_domains", "relay_domains"} {
		for _, word := range words(get(key), ", \t\n") {
			if strings.Contains(word, ":") || strings.HasPrefix(word, "/") {
				f.note("Postfix has more domains in %s (%s): add them to domains", word, key)
				continue
			}
			f.Domains = append(f.Domains, word)
		}
	}
	f.Certificate, f.Key = get("smtpd_tls_cert_file"), get("smtpd_tls_key_file")
	if chain := words(get("smtpd_tls_chain_files"), ", \t\n"); len(chain) == 1 {
		f.Certificate, f.Key = chain[0], chain[0]
	} else if len(chain) > 1 {
		f.Certificate, f.Key = chain[1], chain[0] // the key comes first
	}
	if line, err := s.Run(ctx, "postconf", "-M", "smtp/inet"); err == nil {
		f.service.line = strings.TrimSpace(line)
	}
	switch fields := strings.Fields(f.service.line); {
	case len(fields) < 8:
		f.note("Postfix has no service smtp/inet: it listens elsewhere already? See docs/backends.md")
	case fields[7] == "postscreen":
		f.note("postscreen has port 25; it has to go, since it does not take XCLIENT and would not see clients that talk too early")
	}
}

// exim asks exim -bP.
func (f *Found) exim(ctx context.Context, s System) {
	binary := "exim"
	if s.exists("/etc/exim4") {
		binary = "exim4"
	}
	settings := map[string]string{}
	out, err := s.Run(ctx, binary, "-bP", "primary_hostname", "tls_certificate", "tls_privatekey", "+local_domains", "+relay_to_domains")
	if out == "" && err != nil {
		f.note("%s -bP did not answer: run this as root, or give --hostname and --domain", binary)
	}
	for line := range strings.Lines(out) {
		if key, value, ok := strings.Cut(line, " = "); ok {
			settings[strings.TrimPrefix(strings.TrimSpace(key), "domainlist ")] = strings.TrimSpace(value)
		}
	}
	f.Hostname = settings["primary_hostname"]
	f.Certificate, f.Key = settings["tls_certificate"], settings["tls_privatekey"]
	if strings.Contains(f.Certificate, "$") { // an expansion, which is different for each client
		f.Certificate, f.Key = "", ""
	}
	for _, key := range []string{"local_domains", "relay_to_domains"} {
		for _, word := range words(settings[key], ": \t;") {
			switch {
			case word == "@":
				f.Domains = append(f.Domains, f.Hostname)
			case strings.ContainsAny(word, "/$*+"):
				f.note("Exim has more domains in %s (%s): add them to domains", word, key)
			default:
				f.Domains = append(f.Domains, word)
			}
		}
	}
	if version, err := s.Run(ctx, binary, "-bV"); err == nil && !strings.Contains(version, " PROXY") {
		f.note("this Exim cannot take the PROXY protocol; on Debian install exim4-daemon-heavy, else Exim sees no client")
	}
	const debian, split = "/etc/exim4/update-exim4.conf.conf", "dc_use_split_config='true'"
	f.service = service{file: "/etc/exim/exim.conf"}
	for _, file := range []string{"/usr/local/etc/exim/configure", "/etc/exim4/exim4.conf"} {
		if s.exists(file) {
			f.service.file = file
		}
	}
	if s.exists(debian) && !s.exists("/etc/exim4/exim4.conf") {
		f.service = service{file: debian, debian: true, split: strings.Contains(s.read(debian), split)}
	}
}

// openSMTPD reads smtpd.conf: smtpd prints nothing of it.
func (f *Found) openSMTPD(s System) {
	for _, file := range []string{"/etc/smtpd.conf", "/etc/mail/smtpd.conf", "/etc/opensmtpd/smtpd.conf"} {
		if s.exists(file) {
			f.service.file = file
			break
		}
	}
	tables := map[string]string{}
	for line := range strings.Lines(s.read(f.service.file)) {
		line, _, _ = strings.Cut(line, "#")
		fields := words(strings.NewReplacer("{", " { ", "}", " } ").Replace(line), " \t\n,\"")
		if len(fields) == 0 {
			continue
		}
		switch fields[0] {
		case "table":
			if len(fields) > 2 {
				tables["<"+fields[1]+">"] = strings.Join(fields[2:], " ")
			}
		case "pki":
			if len(fields) == 4 && fields[2] == "cert" {
				f.Certificate, f.Hostname = fields[3], fields[1]
			} else if len(fields) == 4 && fields[2] == "key" {
				f.Key = fields[3]
			}
		case "listen":
			for i, word := range fields[:len(fields)-1] {
				if word == "hostname" {
					f.Hostname = fields[i+1]
				}
			}
		case "match":
			f.openSMTPDDomains(fields, tables)
		}
	}
}

// openSMTPDDomains reads `match … for domain "example.org"`, a list in braces, or a table.
func (f *Found) openSMTPDDomains(match []string, tables map[string]string) {
	for i, word := range match {
		if word != "domain" || i+1 == len(match) {
			continue
		}
		value := match[i+1 : i+2]
		if content, ok := tables[value[0]]; ok {
			value = strings.Fields(content)
		} else if value[0] == "{" {
			value = match[i+2:]
		}
		for _, domain := range value {
			if domain == "}" {
				break
			}
			if strings.ContainsAny(domain, ":<*") {
				f.note("OpenSMTPD has more domains in %s: add them to domains", domain)
				continue
			}
			f.Domains = append(f.Domains, domain)
		}
	}
}

// sendmail reads sendmail.cf: class w is what it takes mail for.
func (f *Found) sendmail(s System) {
	for line := range strings.Lines(s.read("/etc/mail/sendmail.cf")) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "Cw"):
			f.Domains = append(f.Domains, strings.Fields(line[2:])...)
		case strings.HasPrefix(line, "Fw"):
			file := strings.TrimPrefix(strings.TrimSpace(line[2:]), "-o ")
			f.Domains = append(f.Domains, listFile(s, file)...)
		case strings.HasPrefix(line, "Dj"):
			f.Hostname = strings.TrimSpace(line[2:])
		case strings.HasPrefix(line, "O ServerCertFile="):
			f.Certificate = strings.TrimPrefix(line, "O ServerCertFile=")
		case strings.HasPrefix(line, "O ServerKeyFile="):
			f.Key = strings.TrimPrefix(line, "O ServerKeyFile=")
		}
	}
	f.note("sendmail cannot take the client's address on the same machine; on another one it can, see docs/backends.md (transparent)")
}

func (f *Found) courier(s System) {
	f.Hostname = s.firstLine("/etc/courier/me")
	f.Domains = append(listFile(s, "/etc/courier/locals"), listFile(s, "/etc/courier/esmtpacceptmailfor")...)
	f.Certificate = "/etc/courier/esmtpd.pem"
	if !s.exists(f.Certificate) {
		f.Certificate = ""
	}
	f.note("Courier cannot take the client's address on the same machine; on another one it can, see docs/backends.md (transparent)")
}

// listFile is the words of a file but for comments.
func listFile(s System, file string) []string {
	var list []string
	for line := range strings.Lines(s.read(file)) {
		line, _, _ = strings.Cut(line, "#")
		list = append(list, strings.Fields(line)...)
	}
	return list
}
