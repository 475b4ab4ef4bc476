package milter

import (
	"context"
	"fmt"
	"slices"

	"gatepost/proxy/called"
	"gatepost/proxy/sockets"
)

// Listen is one entry of `milter:`.
type Listen struct {
	called.Listen `yaml:",inline"`
	// Submission lists the names of services ({daemon_name}) at which users hand in their mail: what Postfix calls
	// milter_macro_daemon_name, and sendmail Name= in DAEMON_OPTIONS. Rules that read facts of dnsbl, spf, greylist, known or
	// dmarc, or that greylist, do not act there; nor for clients that have signed in with AUTH, or that are on the MTA's
	// own machine.
	Submission []string `yaml:"submission"`
}

// SetDefaults fills in what an entry does not say.
func (l *Listen) SetDefaults() {
	l.Listen.SetDefaults()
	l.Submission = []string{"ORIGINATING", "MSA"}
}

// takesSubmission tells whether users hand in their mail at a service of that name.
func (l *Listen) takesSubmission(service string) bool { return slices.Contains(l.Submission, service) }

// Bound is an entry with its socket.
type Bound = called.Bound[Listen]

// Listening is where a reload has MTAs served.
type Listening = called.Listening[Listen]

// Bind opens the socket, unless it was given to the process. A UNIX socket that a dead process left is replaced; its folder must exist.
func (l Listen) Bind(ctx context.Context, given *sockets.Set) (Bound, error) {
	b, err := called.Bind(ctx, l, sockets.Milter, given)
	if err != nil {
		return b, fmt.Errorf("milter: %w", err)
	}
	return b, nil
}
