package filters

// A Stage is a point of the SMTP dialogue at which something new becomes known. Stages are ordered: what is known at
// one is known at all later ones of the same mail transaction.
type Stage uint8

const (
	// AtConnect is the moment after accept: the client's address, before the greeting.
	AtConnect Stage = iota
	// AtHelo is EHLO or HELO. It happens again after STARTTLS.
	AtHelo
	// AtMail is MAIL FROM, the start of a mail transaction (RFC 5321, 3.3).
	AtMail
	// AtRcpt is one RCPT TO.
	AtRcpt
	// AtData is the DATA command or the first BDAT, when all recipients are known.
	AtData
	// AtMessage is the message's content: its observations start with its first byte and end after its last.
	AtMessage
)

// Stages holds the names of the stages in order, as the rule language and the documentation spell them.
var Stages = [...]string{AtConnect: "connect", AtHelo: "helo", AtMail: "mail", AtRcpt: "rcpt", AtData: "data", AtMessage: "message"}

func (s Stage) String() string { return Stages[s] }
