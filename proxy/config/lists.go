package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"gatepost/rules"
)

// Lists reads the list files of in_list(). A relative name means a file in Folder or below it, and cannot lead out of
// it: a rule with a slip of the pen shall not read just any file. An absolute name is taken as it is.
type Lists struct{ Folder string }

// maxList bounds one list file.
const maxList = 64 << 20

// ReadList returns the file's content; a missing one is fs.ErrNotExist.
func (l Lists) ReadList(name string) ([]byte, error) {
	name, err := l.path(name)
	if err != nil {
		return nil, err
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

func (l Lists) path(name string) (string, error) {
	switch {
	case filepath.IsAbs(name):
		return name, nil
	case !filepath.IsLocal(name):
		return "", errors.New("the name leads out of the folder of the list files; give an absolute one")
	}
	return filepath.Join(l.Folder, name), nil
}

// problem gives a problem in a list file, which names it as the rule does, the file's real name and the excerpt.
func (l Lists) problem(p rules.Problem) Problem {
	name := p.Pos.File
	if path, err := l.path(name); name != "" && err == nil {
		p.Pos.File = path
	}
	return Problem{Problem: p, excerpt: l.line(name, p.Pos.Line)}
}

// line is a line of a list file, for an excerpt; empty if it cannot be read.
func (l Lists) line(name string, number int) string {
	content, err := l.ReadList(name)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(content) {
		if number--; number == 0 {
			return string(bytes.ToValidUTF8(bytes.TrimRight(line, "\r\n"), []byte("?")))
		}
	}
	return ""
}
