//go:build !unix

package journal

import "os"

// lockFolder does not lock where there is no flock; the store's lock keeps a second process away as well.
func lockFolder(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
}
