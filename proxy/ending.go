package proxy

// ending says why a session ended. It has a byte of each session that waits, where a text has sixteen.
type ending uint8

const (
	notEnding ending = iota
	endClosed        // by us, in order
	endQuit
	endLeft
	endLeftBeforeGreeting
	endLeftBeforeHeader // the PROXY header: a health check
	endLeftInMessage
	endLost
	endTimeout
	endTimeoutInMessage
	endTooSlow
	endTurnedAway
	endNotSMTP
	endNoHeader
	endNoHandshake
	endHandshakeFailed
	endShutdown
	endSocketError
	endInternalError
	endProbe
)

// endings are the words that journal and log have for them.
var endings = [...]string{
	notEnding:             "",
	endClosed:             "closed",
	endQuit:               "quit",
	endLeft:               "client left",
	endLeftBeforeGreeting: "client left before the greeting",
	endLeftBeforeHeader:   "peer left before its PROXY header",
	endLeftInMessage:      "client left in the message",
	endLost:               "connection lost",
	endTimeout:            "timeout",
	endTimeoutInMessage:   "timeout in the message",
	endTooSlow:            "too slow in the message",
	endTurnedAway:         "turned away",
	endNotSMTP:            "not SMTP",
	endNoHeader:           "no PROXY header",
	endNoHandshake:        "no TLS handshake",
	endHandshakeFailed:    "TLS handshake failed",
	endShutdown:           "shutdown",
	endSocketError:        "socket error",
	endInternalError:      "internal error",
	endProbe:              "probe",
}

func (e ending) String() string { return endings[e] }
