package journal

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"
)

// mend cuts off what is torn at the end of a file that nobody writes any more. A file of which nothing can be read is set
// aside under a name with the date; usable is false then. One that cannot be mended, or is of a later release, stays as
// it is: nothing is ever written behind it, and readers pass over what they cannot read.
func (j *Journal) mend(s *segment) (usable bool) {
	usable, err := mend(s, j.clock.Now(), j.log, &j.metrics)
	if err != nil {
		j.metrics.Errors.Add(1)
		j.log.Error("journal: a file cannot be looked through; it stays as it is", "file", s.name, "error", err)
	}
	return usable || err != nil
}

func mend(s *segment, now time.Time, log *slog.Logger, metrics *Metrics) (usable bool, err error) {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	good, frames, err := goodLength(f, s.size)
	switch {
	case errors.Is(err, errVersion):
		log.Warn("journal: the latest file was written by a later release; this one does not read it, and leaves it alone", "file", s.name)
		return true, nil
	case err != nil:
		return false, err
	case frames == 0:
		aside := s.path + damagedMark + now.UTC().Format("20060102T150405Z")
		metrics.Mended.Add(1)
		log.Error("journal: a file holds nothing that can be read; it is set aside", "file", s.name, "bytes", s.size, "path", aside)
		return false, os.Rename(s.path, aside)
	case good < s.size:
		metrics.Mended.Add(1)
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
		frame, head, offset, err := s.next()
		if err == io.EOF || err == errTail {
			return length, frames, nil
		}
		if err != nil {
			return 0, 0, err
		}
		if frame.kind == fileFrame {
			if err := checkVersion(head); err != nil {
				return 0, 0, err
			}
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
