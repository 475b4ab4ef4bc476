package proxy

import "strings"

// scene is a short dialogue of the matrix, behind EHLO.
type scene struct {
	name  string
	hello bool // it says HELO or EHLO: EHLO is said again behind it
	steps []step
}

// step is one command.
type step struct {
	line  string
	data  string // what follows a 354
	chunk string // what follows the line whatever the reply is
}

func (d scene) chunks() bool {
	for _, s := range d.steps {
		if s.chunk != "" {
			return true
		}
	}
	return false
}

// endsGroup tells whether the client must wait for the reply (RFC 2920, 3.1).
func (s step) endsGroup() bool {
	verb, _, _ := strings.Cut(strings.ToUpper(s.line), " ")
	switch verb {
	case "MAIL", "RCPT", "RSET", "BDAT":
		return false
	}
	return true
}

// say makes a scene of lines; "DATA" is followed by a short message where it is taken.
func say(name string, lines ...string) scene {
	d := scene{name: name}
	for _, line := range lines {
		s := step{line: line}
		if strings.EqualFold(line, "DATA") {
			s.data = "Subject: " + name + "\r\n\r\n..\r\n.\xe4\r\n.\r\n"
		}
		if verb, _, _ := strings.Cut(line, " "); verb == "HELO" || verb == "EHLO" {
			d.hello = true
		}
		d.steps = append(d.steps, s)
	}
	return d
}

// with adds what follows the reply to the last line.
func (d scene) with(data string) scene {
	d.steps[len(d.steps)-1].data = data
	return d
}

// chunk adds a BDAT command and its bytes.
func (d scene) chunk(line, bytes string) scene {
	d.steps = append(d.steps, step{line: line, chunk: bytes})
	return d
}

func (d scene) then(lines ...string) scene {
	more := say(d.name, lines...)
	d.steps = append(d.steps, more.steps...)
	return d
}

const (
	mailA = "MAIL FROM:<a@example.org>"
	rcptB = "RCPT TO:<b@example.com>"
	rcptC = "RCPT TO:<c@example.com>"
	rcptX = "RCPT TO:<x@example.com>" // nobody there
)

var dialogues = func() []scene {
	list := []scene{
		say("one", mailA, rcptB, "DATA"),
		say("two in a row", mailA, rcptB, "DATA").then(mailA, rcptC, "DATA"),
		say("recipients", mailA, rcptX, rcptB, "RCPT TO:<later@example.com>", rcptC, "DATA"),
		say("nobody", mailA, rcptX, "DATA"),
		say("no recipient", mailA, "DATA"),
		say("no sender", rcptB, "DATA", "BDAT 0 LAST"),
		say("nested", mailA, mailA, rcptB, "DATA"),
		say("sender refused", "MAIL FROM:<refused@example.org>", rcptB, "DATA"),
		say("sender later", "MAIL FROM:<later@example.org>", rcptB, mailA, rcptB, "DATA"),
		say("message refused", "MAIL FROM:<late@example.org>", rcptB, "DATA").then(mailA, rcptB, "DATA"),
		say("RSET", mailA, rcptX, "RSET", rcptB, mailA, rcptB, "DATA"),
		say("RSET with argument", "RSET now", mailA, "RSET now", rcptB, "DATA"),
		say("DATA with argument", mailA, rcptB, "DATA now", "DATA"),
		say("NOOP", "NOOP", "NOOP with words", mailA, "NOOP", rcptB, "NOOP", "DATA"),
		say("VRFY", "VRFY", "VRFY b@example.com", mailA, "VRFY <c@example.com>", rcptB, "DATA"),
		say("EXPN", "EXPN list", "EXPN", mailA, rcptB, "EXPN list", "DATA"),
		say("ETRN", "ETRN", "ETRN example.com", mailA, rcptB, "DATA"),
		say("many recipients", mailA, rcptB, rcptC, rcptX, rcptB, rcptC, "DATA"),
		say("HELP", "HELP", "HELP MAIL", mailA, "HELP", rcptB, "DATA"),
		say("old", "TURN", "SEND FROM:<a@example.org>", "SOML FROM:<a@example.org>", "SAML FROM:<a@example.org>"),
		say("foreign", "FOO", "foo bar", "LHLO client.test"),
		say("case", "mail from:<a@example.org>", "rcpt to:<b@example.com>", "DATA").then("rset", "Noop"),
		say("null sender", "MAIL FROM:<>", rcptB, "DATA"),
		say("no path", mailA, "RCPT TO:<>", rcptB, "DATA"),
		say("postmaster", mailA, "RCPT TO:<postmaster>", "DATA"),
		say("quoted", `MAIL FROM:<"a b"@example.org>`, `RCPT TO:<"b c"@example.com>`, "DATA"),
		// That of a recipient is the proxy's to cut off (RFC 5321, 3.3).
		say("source route", "MAIL FROM:<@relay.test:a@example.org>", "RCPT TO:<b@example.com>", "DATA"),
		say("HELO", "HELO client.test", mailA, rcptB, "DATA"),
		say("HELO and parameters", "HELO client.test", mailA+" SIZE=100", mailA+" BODY=8BITMIME", mailA, rcptB+" NOTIFY=NEVER", rcptB, "DATA"),
		say("HELO in a transaction", mailA, rcptB, "HELO client.test", rcptB, mailA, rcptB, "DATA"),
		say("EHLO in a transaction", mailA, rcptB, "EHLO client.test", rcptB, "DATA"),

		say("empty message", mailA, rcptB, "DATA").with(".\r\n"),
		say("only a header", mailA, rcptB, "DATA").with("Subject: x\r\n.\r\n"),
		say("dots", mailA, rcptB, "DATA").with("\r\n..\r\n...\r\n..x.\r\n x.\r\n.\r\n"),
		say("long lines", mailA, rcptB, "DATA").with("\r\n" + strings.Repeat("x", 70_000) + "\r\n.\r\n"),
		say("trailing blanks", mailA, rcptB, "DATA").with("A: b \r\nC:\t\r\n \td\r\n\r\n \r\n\t\r\n.\r\n"),

		say("BDAT", mailA, rcptB).chunk("BDAT 6 LAST", "\r\nx\r\n."),
		say("BDAT in pieces", mailA, rcptB).chunk("BDAT 3", "\r\nx").chunk("BDAT 0", "").chunk("BDAT 2", "\r\n").chunk("BDAT 0 LAST", ""),
		say("BDAT empty", mailA, rcptB).chunk("BDAT 0 LAST", ""),
		say("BDAT with a dot", mailA, rcptB).chunk("BDAT 7 LAST", "\r\n.\r\n\r\n").then(mailA, rcptB, "DATA"),
		say("BDAT for nobody", mailA, rcptX).chunk("BDAT 6", "QUIT\r\n").chunk("BDAT 6 LAST", "RSET\r\n").then("RSET", mailA, rcptB, "DATA"),
		say("BDAT without recipients", mailA).chunk("BDAT 6 LAST", "QUIT\r\n"),
		say("BDAT without sender").chunk("BDAT 6 LAST", "QUIT\r\n"),
		say("BDAT refused", "MAIL FROM:<late@example.org>", rcptB).chunk("BDAT 3", "\r\nx").chunk("BDAT 2 LAST", "\r\n"),
		say("BDAT and no end", mailA, rcptB).chunk("BDAT 5", "\r\nx\r\n").then("RSET", mailA, rcptB).chunk("BDAT 2 LAST", "\r\n"),
		say("BDAT large", mailA, rcptB).chunk("BDAT 100002", "\r\n"+strings.Repeat("0123456\r\n", 11_111)+"x").chunk("BDAT 2 LAST", "\r\n"),
	}
	for _, p := range []string{"SIZE=100", "SIZE=0", "SIZE=999999999", "SIZE=99999999999999999999", "SIZE=x", "SIZE=-1", "SIZE=", "SIZE", "SIZE=1 SIZE=1",
		"BODY=7BIT", "BODY=8BITMIME", "body=8bitmime", "BODY=FOO", "BODY", "BODY=7BIT BODY=8BITMIME", "BODY=BINARYMIME",
		"SMTPUTF8", "SMTPUTF8=1", "SMTPUTF8 BODY=8BITMIME",
		"RET=FULL", "RET=HDRS", "ENVID=QQ314159", "ENVID=a+2Bb RET=HDRS", "RET=FULL RET=HDRS",
		"FOO", "FOO=BAR", "AUTH=<>", "AUTH=a+40example.org", "X-UNKNOWN=1", "PRDR", "NOTIFY=NEVER",
		"REQUIRETLS", "REQUIRETLS=1", "requiretls SIZE=100", "MT-PRIORITY=3", "mt-priority=-9 MT-PRIORITY=1", "BY=120;R", "HOLDFOR=60",
		"HOLDUNTIL=2029-01-01T00:00:00Z", "X-LOCAL", "X-LOCAL=1", "RRVS=2014-04-03T23:01:00Z",
		"SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x", "SIZE=100 REQUIRETLS MT-PRIORITY=3 BY=120;R"} {
		list = append(list, say("MAIL "+p, mailA+" "+p, rcptB, "DATA"))
	}
	for _, p := range []string{"NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE,DELAY", "NOTIFY=NEVER ORCPT=rfc822;b@example.com", "ORCPT=rfc822;a+2Bb@example.com",
		"ORCPT=utf-8;b@example.com", "NOTIFY=NEVER NOTIFY=NEVER", "FOO", "FOO=BAR", "SIZE=1", "RET=HDRS", "X-UNKNOWN=1", "RRVS=2014-04-03T23:01:00Z;C", "X-LOCAL=1", "MT-PRIORITY=1"} {
		list = append(list, say("RCPT "+p, mailA, rcptB+" "+p, "DATA"))
	}
	for _, p := range []string{"", " SMTPUTF8", " SMTPUTF8 BODY=8BITMIME"} {
		list = append(list,
			say("UTF-8 sender"+p, "MAIL FROM:<ä@example.org>"+p, rcptB, "DATA"),
			say("UTF-8 recipient"+p, mailA+p, "RCPT TO:<ö@example.com>", rcptB, "DATA"))
	}
	list = append(list,
		say("binary and DATA", mailA+" BODY=BINARYMIME", rcptB, "DATA"),
		say("binary by BDAT", mailA+" BODY=BINARYMIME", rcptB).chunk("BDAT 8 LAST", "\r\n\x00\r\n\n\r\xff"),
		say("binary in pieces", mailA+" BODY=BINARYMIME", rcptB).chunk("BDAT 3", "\r\n\r").chunk("BDAT 3 LAST", "\n.\n"),
		say("8-bit by BDAT", mailA+" BODY=8BITMIME", rcptB).chunk("BDAT 5 LAST", "\r\n\xe4\r\n"))
	return list
}()
