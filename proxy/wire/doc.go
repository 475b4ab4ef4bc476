// Package wire is the SMTP codec: command lines, paths and parameters, replies, and the bytes of a message. It is pure
// functions and small state machines over byte slices; it knows no policy and opens no sockets. Everything it is given
// is taken to be hostile.
//
// What the client sends comes through here:
//
//	command line   NextLine → ParseCommand → ParseMail, ParseRcpt, ParseBdat
//	after DATA     DataDecoder (framing Dots): CRLF.CRLF and nothing else ends the message
//	after BDAT     DataDecoder (framing Chunks or Binary): the session counts the bytes of the chunk
//
// What goes out: Reply.AppendTo towards the client, AppendParams and Stuffer towards the backend, whose replies come in
// by ParseReply.
//
// # Line ends
//
// "SMTP smuggling" lives on two servers that disagree about where a message ends. The defence has two halves. The
// decoder ends data at CRLF.CRLF only and hands on a message without a bare CR or LF; the [Stuffer] puts a dot before
// every dot at the start of a line. So what leaves holds, beside the end that we wrote, nothing that even the most
// lenient server takes for one.
package wire
