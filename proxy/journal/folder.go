package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names in the folder of a journal.
const (
	segmentSuffix = ".journal"
	damagedMark   = ".corrupt-" // and the date
	keyName       = "key"
	lockName      = "LOCK"
)

// segment is one file. Their numbers only grow, so that a clock that is set back does not change their order.
type segment struct {
	number uint64
	name   string // "000000000042-20261122T072400Z.journal"
	path   string
	size   int64
	newest time.Time // when it was written to last
}

func segmentName(number uint64, at time.Time) string {
	return fmt.Sprintf("%012d-%s%s", number, at.UTC().Format("20060102T150405Z"), segmentSuffix)
}

func parseSegmentName(name string) (number uint64, ok bool) {
	rest, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	digits, _, ok := strings.Cut(rest, "-")
	if !ok {
		return 0, false
	}
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, err == nil
}

// segments lists the files of a folder, oldest first.
func segments(folder string) ([]segment, error) {
	items, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var list []segment
	for _, item := range items {
		number, ok := parseSegmentName(item.Name())
		if !ok || !item.Type().IsRegular() {
			continue
		}
		info, err := item.Info()
		if errors.Is(err, os.ErrNotExist) {
			continue // its time was up just now
		}
		if err != nil {
			return nil, err
		}
		list = append(list, segment{number: number, name: item.Name(), path: filepath.Join(folder, item.Name()),
			size: info.Size(), newest: info.ModTime()})
	}
	slices.SortFunc(list, func(a, b segment) int { return cmp.Compare(a.number, b.number) })
	return list, nil
}

// removeDamaged removes files that were set aside, when their time is up too.
func removeDamaged(folder string, expired time.Time) error {
	items, err := os.ReadDir(folder)
	for _, item := range items {
		if info, gone := item.Info(); gone == nil && strings.Contains(item.Name(), damagedMark) && info.ModTime().Before(expired) {
			err = errors.Join(err, os.Remove(filepath.Join(folder, item.Name())))
		}
	}
	return err
}

// disk is what the writer needs of a file system. A test has one that fails.
type disk interface {
	Create(path string) (file, error) // for appending; it must not exist
	Remove(path string) error
}

type file interface {
	io.Writer
	Sync() error
	Truncate(size int64) error
	Close() error
}

// osDisk is the machine's own.
type osDisk struct{}

func (osDisk) Create(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osDisk) Remove(path string) error { return os.Remove(path) }
