// Package wire is the milter protocol's codec, for both of its ends: frames, and what stands in them. It opens no
// sockets and knows no policy.
//
// The protocol has no standard but sendmail's libmilter (include/libmilter/mfdef.h, mfapi.h). Codes and option bits are
// those of emersion/go-milter, whose constants are used wherever it has them. Its framing is not: readPacket takes two
// system calls and an allocation for every packet and is not exported, and its Server hides what stands behind it: it
// answers the negotiation without having read the offer, forgets the connection with every reject, drops the parameters
// of MAIL and RCPT, closes at UNKNOWN and QUIT_NC, and lets each packet of macros replace those of all other stages. A
// connection wrapper that undoes all of that would have to parse and write every packet itself, and the Server behind it
// would have nothing left to do.
//
// A frame is four bytes of length, big-endian, a byte that says what it is, and length-1 bytes of data. Text in it ends
// with NUL.
package wire
