package proxy

// A final reply is written, and then its client is gone: does it know how the message came out? TCP does not tell. What
// tells is the client's next command, or its next message, if we took it from the socket after the reply was written: then
// the client has read on. Commands that it had sent before, along with the message, say nothing.

// awaitReading remembers a transaction whose final reply was just written, until a command confirms it. Nothing is
// allocated: the transaction is there anyway.
func (s *session) awaitReading(tx *transaction) {
	tx.incoming = incoming{}
	tx.earlier, s.unread, s.written = s.unread, tx, s.conn.received
}

// confirm takes note of a command, or of the end of a message.
func (s *session) confirm() {
	if s.unread == nil || s.conn.received == s.written {
		return
	}
	for tx := s.unread; tx != nil; tx = tx.earlier {
		if c := s.service.confirmer; c != nil {
			c.Confirmed(tx.envelope.ID, s.server.clock.Now())
		}
		s.settleCopies(tx)
	}
	s.unread = nil
}

// leaveUnread is for the end of the session. Whoever said QUIT in one go with the message has left in order, and is
// worth no warning; that it has read the reply is not known all the same.
func (s *session) leaveUnread() {
	for tx := s.unread; tx != nil; tx = tx.earlier {
		if !tx.delivered {
			continue
		}
		if s.note != endQuit {
			s.server.metrics.Unconfirmed.Add(1)
			s.log().Warn("the client left without confirming that it has read the reply to a message that was delivered; it may send it again",
				"transaction", tx.envelope.ID, "backend", tx.backend, "queue_id", tx.queueID)
		}
		s.rememberCopies(tx)
	}
	s.unread = nil
}
