// Package sink is the mail server behind the proxies that are measured: it takes everything as fast as one thread can,
// counts messages and bytes, and keeps nothing.
//
// It is strict where a proxy could cheat or err: only CRLF.CRLF ends DATA, commands out of sequence get 503, and a
// message that does not end is counted as broken.
package sink
