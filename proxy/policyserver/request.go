package policyserver

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"gatepost/proxy/called"
)

// Bounds of a request, in bytes but for the last. Postfix cuts what clients say at line_length_limit, 2048.
const (
	maxLine       = 8 << 10
	maxRequest    = 64 << 10
	maxAttributes = 256
)

// Bounds of what is kept of values, in bytes.
const (
	maxName    = 255
	maxAddress = 1024
)

var (
	errTooLong = errors.New("a request is longer than one can be")
	errNoName  = errors.New("a line of a request is not name=value")
)

// attributes are those of a request that we read. Others are left out.
type attributes map[string]string

// known are the attributes that we read, each with what is kept of its value.
var known = map[string]int{
	"request": maxName, "protocol_state": maxName, "protocol_name": maxName, "instance": maxName, "queue_id": maxName,
	"client_address": maxName, "client_name": maxName, "client_port": maxName, "server_address": maxName, "server_port": maxName,
	"helo_name": maxName, "sender": maxAddress, "recipient": maxAddress, "size": maxName,
	"sasl_username": maxName, "ccert_subject": maxName, "encryption_protocol": maxName, "encryption_cipher": maxName,
}

// readRequest reads lines up to an empty one into a, which is emptied before. io.EOF: there is no further request.
func readRequest(r *bufio.Reader, a attributes) error {
	clear(a)
	total, lines := 0, 0
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			return errTooLong
		case errors.Is(err, io.EOF) && (len(line) > 0 || lines > 0):
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		if total += len(line); total > maxRequest || lines >= maxAttributes {
			return errTooLong
		}
		line = line[:len(line)-1]
		if len(line) == 0 {
			return nil
		}
		lines++
		name, value, ok := strings.Cut(string(line), "=")
		if !ok {
			return fmt.Errorf("%w: %.40q", errNoName, line)
		}
		if limit := known[name]; limit > 0 {
			a[name] = called.Clean(value, limit)
		}
	}
}
