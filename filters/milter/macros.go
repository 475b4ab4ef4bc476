package milter

import (
	"strconv"

	"github.com/emersion/go-milter"

	"gatepost/filters"
	"gatepost/filters/milter/wire"
)

// clientName is the client's verified name or, as sendmail has it, its address in brackets.
func (p *play) clientName() string {
	if p.view.Session.Name != "" {
		return p.view.Session.Name
	}
	if confirmed, _ := p.view.Facts.Bool("rdns.confirmed"); confirmed {
		if name, _ := p.view.Facts.Text("rdns.name"); name != "" {
			return name
		}
	}
	return "[" + p.clientAddress() + "]"
}

func (p *play) clientAddress() string { return p.view.Session.Client.Addr().Unmap().String() }

func (p *play) connect() wire.Connect {
	client := p.view.Session.Client
	c := wire.Connect{Name: p.clientName(), Family: milter.FamilyInet, Port: client.Port(), Address: p.clientAddress()}
	if !client.Addr().Unmap().Is4() {
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
		"{daemon_addr}", s.Local.Addr().Unmap().String(),
		"{if_addr}", s.Local.Addr().Unmap().String(),
		"{client_addr}", p.clientAddress(),
		"{client_name}", name,
		"{client_ptr}", name,
		"{client_port}", strconv.Itoa(int(s.Client.Port())),
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
