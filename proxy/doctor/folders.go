package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gatepost/proxy/journal"
)

// leastSpace is what a folder's disk should have left; below a tenth of it things are about to stop.
const leastSpace = 1 << 30

func (x *examiner) checkFolders(_ context.Context, f *findings) {
	c := x.Config
	x.checkFolder(f, "store.path", c.Store.Path, 0o077, leastSpace)
	lookForSetAside(f, "store.path", c.Store.Path, corruptMark,
		"gatepost state import --file BACKUP brings back what a backup has; then remove it (docs/disaster.md)")
	lookForSetAside(f, "quarantine.path", filepath.Join(c.Quarantine.Path, "damaged"), "",
		"read it with a mail program: somebody was told 250 for it, and nobody has got it; then remove it (docs/disaster.md)")
	if c.Journal.Path != journal.Off {
		x.checkFolder(f, "journal.path", c.Journal.Path, 0o027, leastSpace)
		lookForSetAside(f, "journal.path", c.Journal.Path, corruptMark, "remove it, or it is removed when journal.keep is over (docs/disaster.md)")
		if free, total, err := x.machine.space(existing(x.machine, c.Journal.Path)); err == nil && uint64(c.Journal.Size) > total {
			f.add(Warning, "journal.size", "the journal may grow larger than its disk").
				saw("%s; the disk has %d MiB, %d free", c.Journal.Size, total>>20, free>>20).advise("lower journal.size")
		}
	}
}

// corruptMark is in the names of what could not be read and was set aside.
const corruptMark = ".corrupt-"

// lookForSetAside tells of files whose names have mark in them.
func lookForSetAside(f *findings, key, folder, mark, advice string) {
	items, err := os.ReadDir(folder)
	if err != nil {
		return // that of the folder itself is told elsewhere
	}
	var names []string
	for _, item := range items {
		if strings.Contains(item.Name(), mark) {
			names = append(names, item.Name())
		}
	}
	if len(names) > 0 {
		f.add(Warning, key, "something could not be read and was set aside in %s", folder).
			saw("%d: %.200s", len(names), strings.Join(names, ", ")).advise("%s", advice)
	}
}

// checkFolder: forbidden are the permissions that none of others should have.
func (x *examiner) checkFolder(f *findings, key, path string, forbidden fs.FileMode, space uint64) {
	info, err := x.machine.stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := existing(x.machine, path)
		if err := x.machine.writable(parent); err != nil {
			f.add(Warning, key, "%s is missing, and who runs this cannot make it", path).saw("%s: %v", parent, err).
				advise("install -d -o gatepost -g gatepost -m 0700 %s (the package and the unit do that)", path)
		} else {
			f.add(OK, key, "%s is made at the first start", path)
		}
	case err != nil:
		f.add(Error, key, "%s cannot be looked at", path).saw("%v", err).advise("run this as root or as the user gatepost")
		return
	case !info.IsDir():
		f.add(Error, key, "%s is not a folder", path).advise("move that file away")
		return
	default:
		x.checkModes(f, key, path, info, forbidden)
	}
	free, _, err := x.machine.space(existing(x.machine, path))
	switch {
	case err != nil:
		f.add(Notice, key, "how much space there is is not known").saw("%v", err)
	case free < space/10:
		f.add(Error, key, "the disk is all but full").saw("%d MiB are free for %s", free>>20, path).advise("make space")
	case free < space:
		f.add(Warning, key, "the disk is nearly full").saw("%d MiB are free for %s", free>>20, path).advise("make space")
	}
}

func (x *examiner) checkModes(f *findings, key, path string, info fs.FileInfo, forbidden fs.FileMode) {
	mode := info.Mode().Perm()
	seen := fmt.Sprintf("mode %s, owner %s", mode, x.machine.owner(info))
	switch {
	case mode&forbidden != 0:
		f.add(Warning, key, "%s can be used by others", path).saw("%s", seen).advise("chmod %04o %s", mode&^forbidden, path)
	case mode&0o700 != 0o700:
		f.add(Error, key, "its owner cannot write to %s", path).saw("%s", seen).advise("chmod u+rwx %s", path)
	default:
		if err := x.machine.writable(path); err != nil {
			f.add(Error, key, "%s cannot be written to by who runs this", path).saw("%s: %v", seen, err).
				advise("run this as root or as the user gatepost; if it is that user: chown -R gatepost: %s", path)
			return
		}
		f.add(OK, key, "%s is as it should be", path).saw("%s", seen)
	}
}

// existing is the folder itself or the nearest above it that is there.
func existing(m machine, path string) string {
	for {
		if _, err := m.stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
		path = filepath.Dir(path)
	}
}
