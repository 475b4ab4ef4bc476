package postgrey

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxLine bounds a line of a dump, in bytes: a triplet of the longest addresses in hexadecimal is below 5 KiB.
const maxLine = 64 << 10

var errCut = errors.New("the dump ends within a database: was it written to its end?")

// ReadDump calls yield for every pair in a dump (db_dump, with -p or without), until it returns an error.
func ReadDump(r io.Reader, yield func(key, value string) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	number, print, data := 0, false, false
	key, hasKey := "", false
	for lines.Scan() {
		number++
		line := lines.Text()
		switch {
		case !data && line == "HEADER=END":
			data = true
		case !data && strings.HasPrefix(line, "format="):
			print = line == "format=print"
		case !data && (line == "" || strings.Contains(line, "=")):
		case data && line == "DATA=END" && !hasKey:
			data, print = false, false
		case data && strings.HasPrefix(line, " "):
			text, err := decode(line[1:], print)
			if err != nil {
				return fmt.Errorf("line %d: %w", number, err)
			}
			if hasKey = !hasKey; hasKey {
				key = text
			} else if err := yield(key, text); err != nil {
				return err
			}
		default:
			return fmt.Errorf("line %d: %.40q is not what db_dump writes", number, line)
		}
	}
	switch {
	case lines.Err() != nil:
		return fmt.Errorf("line %d: %w", number+1, lines.Err())
	case data || number == 0:
		return errCut
	}
	return nil
}

// decode reads a key or value: pairs of hexadecimal digits or, with -p, what is printable as it is and the rest as a
// backslash with two digits. A C string's NUL, which some programs store, goes.
func decode(text string, print bool) (string, error) {
	if !print {
		b, err := hex.DecodeString(text)
		return strings.TrimSuffix(string(b), "\x00"), err
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			b.WriteByte(text[i])
		case strings.HasPrefix(text[i+1:], `\`):
			b.WriteByte('\\')
			i++
		case i+2 < len(text):
			c, err := hex.DecodeString(text[i+1 : i+3])
			if err != nil {
				return "", err
			}
			b.Write(c)
			i += 2
		default:
			return "", errors.New("a backslash without two digits")
		}
	}
	return strings.TrimSuffix(b.String(), "\x00"), nil
}
