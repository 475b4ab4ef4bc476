//go:build !unix

package front

import "os"

// LockFile does not lock where there is no flock; the store's lock keeps a second process away as well.
func LockFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
}
