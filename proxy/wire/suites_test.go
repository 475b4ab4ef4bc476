package wire

import (
	"os"
	"path/filepath"
	"testing"
)

// suite returns the path of foreign test material, or an empty string where there is none.
func suite(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("GATEPOST_SUITES")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "suites")
	}
	path := filepath.Join(root, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
