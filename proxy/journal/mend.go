package journal

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// mend cuts off what is torn at the end of a file that nobody writes any more. A file of which nothing can be read is set
// aside under another name; usable is false then.
func mend(s *segment, log *slog.Logger) (usable bool, err error) {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	good, frames, err := goodLength(f, s.size)
	switch {
	case err != nil:
		return false, err
	case frames == 0:
		log.Warn("journal: a file holds nothing that can be read; it was set aside", "file", s.name, "bytes", s.size)
		return false, os.Rename(s.path, strings.TrimSuffix(s.path, segmentSuffix)+damagedSuffix)
	case good < s.size:
		log.Warn("journal: the last block was half written when the process ended; it was cut off", "file", s.name, "bytes", s.size-good)
		if err := f.Truncate(good); err != nil {
			return false, fmt.Errorf("cutting the torn end off %s: %w", s.path, err)
		}
		s.size = good
		return true, f.Sync()
	}
	return true, nil
}

// goodLength is where the last frame that is whole ends.
func goodLength(f io.ReaderAt, size int64) (length int64, frames int, err error) {
	s := &scanner{file: f, size: size}
	for {
		frame, _, offset, err := s.next()
		if err == io.EOF || err == errTail {
			return length, frames, nil
		}
		if err != nil {
			return 0, 0, err
		}
		if _, err := s.body(frame, offset); err == errBodySum {
			continue // the last one is cut off; others are told of when they are read
		} else if err != nil {
			return 0, 0, err
		}
		if frames == 0 && frame.kind != fileFrame {
			return 0, 0, nil // what comes after cannot be unpacked without it
		}
		length = s.at
		frames++
	}
}
