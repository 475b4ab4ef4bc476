//go:build mta

package main

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-milter"
)

// readdresser is a milter that Gatepost asks, and that wants a message with a certain subject to go to another recipient
// and to be from another sender.
type readdresser struct {
	milter.NoOpMilter
	acts bool
}

func (r *readdresser) Header(name, value string, _ *milter.Modifier) (milter.Response, error) {
	r.acts = r.acts || name == "Subject" && strings.TrimSpace(value) == "readdress"
	return milter.RespContinue, nil
}

func (r *readdresser) Body(m *milter.Modifier) (milter.Response, error) {
	if !r.acts {
		return milter.RespContinue, nil
	}
	return milter.RespContinue, errors.Join(m.AddRecipient("vmail@example.org"), m.DeleteRecipient("alice@example.org"), m.ChangeFrom("<bounce@example.net>"))
}

// startReaddresser returns its address.
func startReaddresser(t *testing.T) string {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &milter.Server{NewMilter: func() milter.Milter { return &readdresser{} }, Actions: milter.OptAddRcpt | milter.OptRemoveRcpt | milter.OptChangeFrom}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(socket) }()
	t.Cleanup(func() { server.Close(); <-done })
	return "inet:" + socket.Addr().String()
}

// milterReaddresses: what a filter wants of the envelope the MTA does, and the next message is as it was sent.
func milterReaddresses(t *testing.T, s *site) {
	c := s.dialServer(t)
	body := header + "Subject: readdress\r\n\r\nx\r\n"
	c.transaction("alice@example.org", "")
	c.message(body, "250")
	m := s.message(t)
	mustBeBelow(t, m, body)
	if !bytes.Contains(m, []byte("Return-Path: <bounce@example.net>")) {
		t.Errorf("it is from another sender:\n%s", m)
	}
	s.awaitLog(t, "to=<vmail@example.org>")
	c.transaction("alice@example.org", "")
	c.message(header+"Subject: behind it\r\n\r\nx\r\n", "250")
	if m := s.message(t); !bytes.Contains(m, []byte("Return-Path: <bob@example.net>")) || !bytes.Contains(m, []byte("Subject: behind it")) {
		t.Errorf("the next message is not as it was sent, or the first one has come twice:\n%s", m)
	}
}
