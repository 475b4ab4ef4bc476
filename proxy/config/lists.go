package config

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Lists reads the list files of in_list(). Names are relative to Folder.
type Lists struct{ Folder string }

// maxList bounds one list file.
const maxList = 64 << 20

// ReadList returns the file's content; a missing one is fs.ErrNotExist.
func (l Lists) ReadList(name string) ([]byte, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(l.Folder, name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxList {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxList)
	}
	return content, nil
}
