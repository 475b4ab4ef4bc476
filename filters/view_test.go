package filters

import (
	"testing"
	"unsafe"
)

// There is one for every waiting client, and 96 bytes is a size that Go allocates without waste.
func TestSessionSize(t *testing.T) {
	if size := unsafe.Sizeof(Session{}); size > 96 {
		t.Errorf("a session takes %d bytes", size)
	}
}
