package main

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"gatepost/filters/milter/wire"
)

// corpusMilter is a milter that is told in the section "milter" what to say at the end of a message, by its sender:
//
//	SENDER => insert 1 NAME: VALUE | add NAME: VALUE | body TEXT | to ADDRESS | not ADDRESS | from ADDRESS |
//	          reply CODE TEXT | discard | quarantine REASON | silent | hang up
//
// Several lines of a sender are one answer.
type corpusMilter struct {
	listener net.Listener
	answers  map[string][]string
}

func startCorpusMilter(t *testing.T, text string) (address string) {
	t.Helper()
	m := &corpusMilter{answers: map[string][]string{}}
	for line := range strings.Lines(text) {
		if sender, answer, ok := strings.Cut(strings.TrimSpace(line), " => "); ok {
			m.answers[sender] = append(m.answers[sender], answer)
		}
	}
	var err error
	if m.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.listener.Close() })
	go m.serve()
	return "inet:" + m.listener.Addr().String()
}

func (m *corpusMilter) serve() {
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			return
		}
		go m.talk(conn)
	}
}

func (m *corpusMilter) talk(conn net.Conn) {
	defer conn.Close()
	r, sender := wire.NewReader(conn), ""
	for {
		code, _, err := r.Next()
		if err != nil {
			return
		}
		answer := wire.Append[string](nil, 'c')
		switch code {
		case 'O':
			answer = (&wire.Negotiation{Version: 6, Actions: 0x1ff}).AppendTo(nil)
		case 'D', 'Q', 'A': // nothing is answered
			continue
		case 'M':
			data, err := r.Data()
			if err != nil {
				return
			}
			path, _ := wire.Envelope(data)
			sender = strings.Trim(path, "<>")
		case 'E':
			if answer = m.verdict(sender); answer == nil {
				return
			}
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// verdict is what is written at the end of a message: empty to stay silent, nil to hang up.
func (m *corpusMilter) verdict(sender string) []byte {
	all, last := []byte{}, wire.Append[string](nil, 'c')
	for _, line := range m.answers[sender] {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "silent":
			return []byte{}
		case "hang":
			return nil
		case "insert":
			index, field, _ := strings.Cut(rest, " ")
			name, value, _ := strings.Cut(field, ": ")
			number, _ := strconv.ParseUint(index, 10, 32)
			edit := wire.HeaderEdit{Index: uint32(number), Name: name, Value: value}
			all = edit.AppendTo(all, milter.ActInsertHeader)
		case "add":
			name, value, _ := strings.Cut(rest, ": ")
			all = wire.AppendTexts(all, 'h', name, value)
		case "body":
			all = wire.Append(all, 'b', rest+"\r\n")
		case "to":
			all = wire.AppendTexts(all, '+', "<"+rest+">")
		case "not":
			all = wire.AppendTexts(all, '-', "<"+rest+">")
		case "from":
			all = wire.AppendTexts(all, 'e', "<"+rest+">")
		case "quarantine":
			all = wire.AppendTexts(all, 'q', rest)
		case "discard":
			last = wire.Append[string](nil, 'd')
		case "reply":
			last = wire.AppendTexts(nil, 'y', rest)
		}
	}
	return append(all, last...)
}
