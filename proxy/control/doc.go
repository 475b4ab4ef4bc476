// Package control lets commands ask the process that owns the state, over a UNIX socket in the state folder.
//
// One connection is one request. Both sides write lines of JSON:
//
//	client: {"call":"greylist.list","arguments":{"query":"192.0.2.7"}}
//	server: {"item":…}                    any number of them, for a stream
//	server: {"end":true,"value":…}        or {"end":true,"error":"…"}
//
// The socket file is open to its owner alone, and the server asks the kernel who the other end is: the same user, or
// root. Lines are bounded, every read and write has a deadline, and a request ends when its client goes away.
package control

import (
	"encoding/json"
	"time"
)

// Bounds of the protocol.
const (
	maxRequest  = 1 << 20 // bytes of a request line
	maxResponse = 4 << 20 // bytes of a response line
	maxClients  = 32      // connections at a time

	requestTimeout = 10 * time.Second // from connection to complete request
	writeTimeout   = 30 * time.Second // for one response line: a reader that pauses (a pager) is not waited for longer
)

// Name is the socket's usual file name in the state folder.
const Name = "control.sock"

type request struct {
	Call      string          `json:"call"`
	Arguments json.RawMessage `json:"arguments,omitempty"`
}

type response struct {
	Item  json.RawMessage `json:"item,omitempty"`
	End   bool            `json:"end,omitempty"`
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
}
