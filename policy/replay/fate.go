package replay

import (
	"fmt"
	"slices"

	"gatepost/policy"
	"gatepost/rules"
)

// Fate is what became of a recipient's mail, or of a session that did not come to mail.
type Fate uint8

// The fates. Passed is mail of which the mail server has not had its say.
const (
	Delivered Fate = iota
	Passed
	ServerRefused // by the mail server behind, or because there was none
	Abandoned     // by the client
	Greylisted
	Deferred
	Quarantined
	Discarded
	Refused
	Dropped // the connection was closed without a reply
	unknown // in counts
)

var fateNames = [...]string{
	Delivered: "delivered", Passed: "passed on", ServerRefused: "refused by the mail server", Abandoned: "given up by the client",
	Greylisted: "greylisted", Deferred: "deferred", Quarantined: "quarantined", Discarded: "discarded", Refused: "refused", Dropped: "dropped", unknown: "cannot be told",
}

func (f Fate) String() string { return fateNames[f] }

// MarshalText writes the name.
func (f Fate) MarshalText() ([]byte, error) { return []byte(fateNames[f]), nil }

// UnmarshalText reads the name.
func (f *Fate) UnmarshalText(text []byte) error {
	i := slices.Index(fateNames[:], string(text))
	if i < 0 {
		return fmt.Errorf("%q is not how mail ends", text)
	}
	*f = Fate(i)
	return nil
}

// ours tells whether a rule decided it.
func (f Fate) ours() bool { return f >= Greylisted }

func fateOf(d *policy.RecordedDecision) Fate {
	switch {
	case d.Action == rules.Greylist:
		return Greylisted
	case d.Action == rules.Discard:
		return Discarded
	case d.Action == rules.Quarantine:
		return Quarantined
	case d.Action == rules.Drop:
		return Dropped
	case d.Reply.Code >= 500:
		return Refused
	default:
		return Deferred
	}
}

// outcome is the fate of one recipient and who decided it.
type outcome struct {
	fate Fate
	by   *policy.RecordedDecision // nil where no decision of ours
}

// outcomes are those of all recipients, or a single one where it did not come to any. was is those of the recording: what
// the mail server said then, it says again. n is how many recipients there were.
func outcomes(dst []outcome, p *policy.Play, r *policy.Recording, was []outcome) []outcome {
	n := max(1, len(r.Recipients))
	for i := range n {
		switch {
		case i < len(p.Recipients) && p.Recipients[i].Action != 0:
			dst = append(dst, outcome{fateOf(&p.Recipients[i]), &p.Recipients[i]})
		case i < len(p.Recipients) && !r.Recipients[i].Ours && r.Recipients[i].Reply.Code/100 != 2:
			dst = append(dst, outcome{fate: ServerRefused})
		case p.Refused != nil:
			dst = append(dst, outcome{fateOf(p.Refused), p.Refused})
		case was == nil:
			dst = append(dst, outcome{fate: ended(r)})
		case was[i].fate.ours():
			dst = append(dst, outcome{fate: Passed})
		default:
			dst = append(dst, outcome{fate: was[i].fate})
		}
	}
	return dst
}

// ended is how a transaction ended that we let pass.
func ended(r *policy.Recording) Fate {
	switch {
	case r.Reply.Code == 0:
		return Abandoned
	case r.Reply.Code == 250 && !r.Ours && r.Reached == policy.StepEnd:
		return Delivered
	default:
		return ServerRefused
	}
}

// Severity orders changes, the worst first.
type Severity uint8

// The severities.
const (
	Lost     Severity = iota // was delivered, would be refused, discarded or quarantined
	Held                     // was delivered, would be told to come back
	Harder                   // was told to come back or refused by the mail server, would be refused by a rule
	Easier                   // was kept out, would be passed on
	OtherWay                 // another reply with about the same effect
	severities
)

func severity(was, is Fate) Severity {
	switch {
	case was == Delivered && is >= Quarantined:
		return Lost
	case was == Delivered && is.ours():
		return Held
	case was.ours() && !is.ours():
		return Easier
	case is > was:
		return Harder
	case is < was:
		return Easier
	default:
		return OtherWay
	}
}
