// Package sockets says which listening sockets a process starts with, and gives them names.
//
// There are two who can give some: systemd, which has bound them for us (socket activation, sd_listen_fds(3)), and the
// gatepost that ran before, which goes on with its sessions while its successor accepts the next (`gatepost upgrade`).
// Whoever needs a socket asks the [Set]: it hands out the one that fits the configured address, and binds one where none
// was given.
//
//	systemd      LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES    found by the address that each is bound to
//	predecessor  GATEPOST_SOCKETS, a list in JSON          found by use and configured address; the last one is the link
//
// Both begin at descriptor 3.
package sockets
