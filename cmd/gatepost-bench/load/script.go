package load

import "strconv"

// Script is one session. The connection to the server is its first step.
type Script struct {
	Steps []Step
}

// Step sends something and awaits replies.
type Step struct {
	Send []byte // nothing for the first step, which awaits the greeting
	// Begins tells that a transaction's time starts when this step is sent.
	Begins  bool
	Replies []Reply
}

// Reply is one that must come.
type Reply struct {
	To   string // what it answers, for error messages
	Code int
	// Ends tells that the oldest transaction whose time runs has succeeded.
	Ends bool
}

// Refusal is a session that is refused in the end: by the greeting, or by the reply to RCPT if m is not nil.
func Refusal(m *Mail, code int) Script {
	if m == nil {
		return Script{[]Step{{Begins: true, Replies: []Reply{{To: "the connection", Code: code, Ends: true}}}}}
	}
	return Script{[]Step{
		{Begins: true, Replies: []Reply{{To: "the connection", Code: 220}}},
		{Send: []byte("EHLO " + m.Helo + "\r\n"), Replies: []Reply{{To: "EHLO", Code: 250}}},
		{Send: []byte("MAIL FROM:<" + m.From + ">\r\n"), Replies: []Reply{{To: "MAIL", Code: 250}}},
		{Send: []byte("RCPT TO:<" + m.To + ">\r\n"), Replies: []Reply{{To: "RCPT", Code: code, Ends: true}}},
		{Send: []byte("QUIT\r\n"), Replies: []Reply{{To: "QUIT", Code: 221}}},
	}}
}

// Mail is what a session sends.
type Mail struct {
	Helo     string
	From, To string // addresses without brackets
	// Content is the message as it is on the wire, without the final dot: lines end with CRLF and none begins with a dot.
	Content []byte
	// Messages in each session.
	Messages int
	// Pipelined: MAIL, RCPT and DATA leave together, and from the second message on with the content before them
	// (RFC 2920, 3.1).
	Pipelined bool
}

// Script is the session that sends m. The time of the first message's transaction starts with the connection, that of
// later ones with MAIL.
func (m Mail) Script() Script {
	var (
		mail    = Reply{To: "MAIL", Code: 250}
		rcpt    = Reply{To: "RCPT", Code: 250}
		data    = Reply{To: "DATA", Code: 354}
		message = Reply{To: "the message", Code: 250, Ends: true}
		quit    = Reply{To: "QUIT", Code: 221}
	)
	from, to := "MAIL FROM:<"+m.From+"> SIZE="+strconv.Itoa(len(m.Content))+"\r\n", "RCPT TO:<"+m.To+">\r\n"
	content := append(m.Content[:len(m.Content):len(m.Content)], ".\r\n"...)
	steps := []Step{
		{Begins: true, Replies: []Reply{{To: "the connection", Code: 220}}},
		{Send: []byte("EHLO " + m.Helo + "\r\n"), Replies: []Reply{{To: "EHLO", Code: 250}}},
	}
	if m.Pipelined {
		envelope := from + to + "DATA\r\n"
		next := Step{Send: append(content[:len(content):len(content)], envelope...), Begins: true, Replies: []Reply{message, mail, rcpt, data}}
		steps = append(steps, Step{Send: []byte(envelope), Replies: []Reply{mail, rcpt, data}})
		for range m.Messages - 1 {
			steps = append(steps, next)
		}
		return Script{append(steps, Step{Send: append(content[:len(content):len(content)], "QUIT\r\n"...), Replies: []Reply{message, quit}})}
	}
	for i := range m.Messages {
		steps = append(steps,
			Step{Send: []byte(from), Begins: i > 0, Replies: []Reply{mail}},
			Step{Send: []byte(to), Replies: []Reply{rcpt}},
			Step{Send: []byte("DATA\r\n"), Replies: []Reply{data}},
			Step{Send: content, Replies: []Reply{message}})
	}
	return Script{append(steps, Step{Send: []byte("QUIT\r\n"), Replies: []Reply{quit}})}
}
