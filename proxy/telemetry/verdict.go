package telemetry

import (
	"gatepost/policy"
	"gatepost/rules"
)

// Verdict is how a session or transaction ended, as a place in [Verdicts].
type Verdict int

const (
	Accept Verdict = iota // the backend took the message
	Reject
	Defer
	Discard    // a rule threw the message away behind a 250 of ours
	Quarantine // a rule kept it behind a 250 of ours
	Duplicate  // it was delivered before, and answered 250 for that
	Abandon    // the client left or gave up
	Drop       // a rule closed the connection without a reply
)

// Verdicts are the names of all verdicts.
var Verdicts = [...]string{Accept: "accept", Reject: "reject", Defer: "defer", Discard: "discard", Quarantine: "quarantine",
	Duplicate: "duplicate", Abandon: "abandon", Drop: "drop"}

// String names the verdict.
func (v Verdict) String() string { return Verdicts[v] }

// VerdictOf tells how a record ended.
func VerdictOf(rec *policy.Record) Verdict {
	if dropped(rec) {
		return Drop
	}
	code := rec.Ending.Reply.Code
	if rec.Refused != nil && code == 0 { // a session, or a transaction that was refused before its recipients
		code = rec.Refused.Reply.Code
	}
	if code == 0 { // the message was never reached: the recipients tell
		for i := range rec.Recipients {
			code = max(code, rec.Recipients[i].Reply.Code)
		}
	}
	switch code / 100 {
	case 5:
		return Reject
	case 4:
		return Defer
	case 2:
		switch {
		case rec.Ending.Reply.Code == 0:
		case rec.Ending.Ours:
			return instead(rec)
		default:
			return Accept
		}
	}
	return Abandon
}

// dropped tells whether a rule hung up: no reply can tell that.
func dropped(rec *policy.Record) bool {
	if rec.Refused != nil && rec.Refused.Action == rules.Drop {
		return true
	}
	for i := range rec.Recipients {
		if rec.Recipients[i].Action == rules.Drop {
			return true
		}
	}
	return false
}

// instead tells why a 250 was ours: the exceptions from the rule that it is the backend's.
func instead(rec *policy.Record) Verdict {
	if rec.Ending.Suppressed != "" {
		return Duplicate
	}
	for i := range rec.Matched {
		switch m := &rec.Matched[i]; {
		case m.Observed:
		case m.Rule.Action == rules.Discard:
			return Discard
		case m.Rule.Action == rules.Quarantine:
			return Quarantine
		}
	}
	return Accept
}
