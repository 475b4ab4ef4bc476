// Package policyserver is the front end for a Postfix that asks Gatepost by its policy delegation protocol
// (check_policy_service, http://www.postfix.org/SMTPD_POLICY_README.html), as it asks postgrey. It drives the same gate as
// the SMTP proxy, up to DATA: Postfix tells of clients and envelopes, never of what is in a message.
//
//	request.go:  name=value lines up to an empty one, bounded
//	client.go:   the client and its greeting, as every request tells them       gate.Connect, Greet, Helo
//	envelope.go: one transaction per `instance`                                 gate.Mail, Rcpt, Accepted, Data
//	answer.go:   a verdict in the words of access(5)
//
// # One request, all stages
//
// Where Postfix asks is its administrator's choice. Mostly it is at RCPT alone, so each request is carried through all
// stages that it knows enough for, and the first verdict that stops is the answer. With smtpd_delay_reject Postfix asks
// several times about one RCPT, for each list of restrictions that names us; those after the first get the same answer.
//
// # The end of a transaction
//
// Postfix does not tell of it. It has ended when the next one begins, or another client, when DATA was answered, or when
// the smtpd process closes the connection (smtpd_policy_service_max_idle, 300 s). What the client was told in the end is
// not known; the record says so.
package policyserver
