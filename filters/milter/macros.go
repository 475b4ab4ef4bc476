package milter

import (
	"strconv"
	"strings"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

// tellMacros sends what belongs to a stage: that which the milter has asked for (SMFIR_SETSYMLIST), or else own. What is
// not known is left out, as MTAs do.
func (p *play) tellMacros(code milter.Code, stage milter.Stage, own []string, r *filters.Recipient) {
	pairs := own
	if names, asked := p.link.wants(stage); asked {
		pairs = pick(p.known(stage, r), names)
	}
	if len(pairs) > 0 {
		p.link.out = wire.AppendMacros(p.link.out, code, pairs...)
	}
}

// wants is the macros that the milter has asked for at a stage.
func (l *link) wants(stage milter.Stage) (names []string, asked bool) {
	for _, m := range l.agreed.Macros {
		if m.Stage == stage {
			return m.Names, true
		}
	}
	return nil, false
}

// known is all macros that there are at a stage.
func (p *play) known(stage milter.Stage, r *filters.Recipient) []string {
	pairs := p.connectMacros()
	if stage >= milter.StageHelo {
		pairs = append(pairs, p.heloMacros()...)
	}
	if stage >= milter.StageMailFrom {
		pairs = append(pairs, p.mailMacros()...)
	}
	if r != nil {
		pairs = append(pairs, p.rcptMacros(r)...)
	}
	return pairs
}

// pick takes from names and values in turn. The braces of a name belong to its spelling: sendmail takes {i} for i.
func pick(known, names []string) (pairs []string) {
	for _, name := range names {
		for i := 0; i < len(known); i += 2 {
			if strings.Trim(known[i], "{}") == strings.Trim(name, "{}") {
				pairs = append(pairs, known[i], known[i+1])
				break
			}
		}
	}
	return pairs
}

// clientName is the client's verified name or, as sendmail has it, its address in brackets.
func (p *play) clientName() string {
	if name := p.view.Session.VerifiedName(); name != "" {
		return name
	}
	if confirmed, _ := p.view.Facts.Bool("rdns.confirmed"); confirmed {
		if name, _ := p.view.Facts.Text("rdns.name"); name != "" {
			return name
		}
	}
	return "[" + p.clientAddress() + "]"
}

func (p *play) clientAddress() string { return p.view.Session.Client.IP.Unmap().String() }

func (p *play) connect() wire.Connect {
	client := p.view.Session.Client
	c := wire.Connect{Name: p.clientName(), Family: milter.FamilyInet, Port: uint16(client.Port), Address: p.clientAddress()}
	if !client.IP.Unmap().Is4() {
		c.Family = milter.FamilyInet6
	}
	return c
}

func (p *play) connectMacros() []string {
	s, name := p.view.Session, p.clientName()
	return []string{
		"j", p.filter.env.Hostname,
		"v", "Gatepost",
		"_", name + " [" + p.clientAddress() + "]",
		"{daemon_name}", p.filter.config.DaemonName,
		"{daemon_addr}", s.Local().Addr().Unmap().String(),
		"{if_addr}", s.Local().Addr().Unmap().String(),
		"{client_addr}", p.clientAddress(),
		"{client_name}", name,
		"{client_ptr}", name,
		"{client_port}", strconv.Itoa(int(s.Client.Port)),
	}
}

// heloMacros tell of TLS. Those of a plain connection are absent, as with MTAs.
func (p *play) heloMacros() []string {
	tls := p.view.Greeting.TLS
	if tls == nil {
		return nil
	}
	macros := []string{"{tls_version}", tls.Version, "{cipher}", tls.Cipher}
	if tls.PeerSubject != "" {
		macros = append(macros, "{cert_subject}", tls.PeerSubject, "{verify}", "OK")
	}
	return macros
}

func (p *play) mailMacros() []string {
	_, host := filters.SplitAddress(p.view.Envelope.ReversePath)
	macros := append(p.idMacros(), "{mail_addr}", p.view.Envelope.ReversePath, "{mail_host}", host)
	if user := p.view.Greeting.AuthUser; user != "" {
		macros = append(macros, "{auth_authen}", user)
	}
	return macros
}

func (p *play) rcptMacros(r *filters.Recipient) []string {
	_, host := filters.SplitAddress(r.ForwardPath)
	return append(p.idMacros(), "{rcpt_addr}", r.ForwardPath, "{rcpt_host}", host)
}

// idMacros name the message. The backend's queue id is not known before it has the message: this is what our own log
// and journal call it.
func (p *play) idMacros() []string { return []string{"i", p.view.Envelope.ID} }
