package main

import "gatepost/cmd/gatepost-bench/load"

// scenario is one kind of load.
type scenario struct {
	key      string
	title    string
	parallel int // sessions at once
	mail     func(*letters) load.Mail
	bulk     bool // what counts is bytes
}

const (
	clientName = "client.example.net"
	sender     = "bench@example.net"
	recipient  = "user@example.org"
)

// scenarios are played in this order. The first one is also what peers are warmed up with.
var scenarios = []scenario{
	{key: "one", title: "one 4 KiB message a session, 20 sessions at once", parallel: 20, mail: func(l *letters) load.Mail { return mail(l.small, 1) }},
	{key: "signed", title: "one 4 KiB message a session, DKIM-signed (RSA-2048), 20 sessions at once", parallel: 20, mail: func(l *letters) load.Mail { return mail(l.smallSigned, 1) }},
	{key: "ten", title: "ten 4 KiB messages a session, 20 at once", parallel: 20, mail: func(l *letters) load.Mail { return mail(l.small, 10) }},
	{key: "pipelined", title: "ten 4 KiB messages a session, pipelined, 20 at once", parallel: 20, mail: func(l *letters) load.Mail { return pipelined(mail(l.small, 10)) }},
	{key: "bulk", title: "one 1 MiB message a session, 8 at once", parallel: 8, mail: func(l *letters) load.Mail { return mail(l.large, 1) }, bulk: true},
	{key: "bulk-signed", title: "one 1 MiB message a session, DKIM-signed (RSA-2048), 8 at once", parallel: 8, mail: func(l *letters) load.Mail { return mail(l.largeSigned, 1) }, bulk: true},
	{key: "alone", title: "one 4 KiB message a session, one session at a time", parallel: 1, mail: func(l *letters) load.Mail { return mail(l.small, 1) }},
}

func mail(content []byte, messages int) load.Mail {
	return load.Mail{Helo: clientName, From: sender, To: recipient, Content: content, Messages: messages}
}

func pipelined(m load.Mail) load.Mail {
	m.Pipelined = true
	return m
}
