package handover

import (
	"errors"
	"io"
	"syscall"
)

// isEnd tells the end of the other process from a mistake on the link.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}
