package doctor

import (
	"context"
	"net"
	"net/netip"
)

// checkAdmin says who can reach the admin pages.
func (x *examiner) checkAdmin(_ context.Context, f *findings) {
	a := &x.Config.Admin
	if !a.Enabled() {
		f.add(OK, "admin", "there are no admin pages (admin: off)")
		return
	}
	host, _, _ := net.SplitHostPort(a.Address)
	ip, err := netip.ParseAddr(host)
	protected := a.Password.Reveal() != ""
	switch {
	case (err == nil && ip.IsLoopback() || host == "localhost") && protected:
		f.add(OK, a.Address, "the admin pages are for this machine alone, with a password")
	case err == nil && ip.IsLoopback() || host == "localhost":
		f.add(Notice, a.Address, "everybody who has an account on this machine can see the admin pages").
			advise("set admin.password (`gatepost admin password`) if that is more than those who may")
	case err == nil && (ip.IsPrivate() || ip.IsLinkLocalUnicast()):
		f.add(OK, a.Address, "the admin pages can be reached from the local network, by TLS and with a password")
	default:
		f.add(Warning, a.Address, "the admin pages can be reached from everywhere").saw("TLS and a password protect them").
			advise("listen on 127.0.0.1 and use ssh -L 8025:127.0.0.1:8025, or keep others out by the firewall")
	}
}
