package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// User is who the process is to be.
type User struct {
	Name   string
	UID    int
	GID    int
	Groups []int // GID among them
}

// Lookup finds a user, by name or number, with all groups that it is in. group is its group instead of the one of the user
// database; empty: that one.
func Lookup(name, group string) (*User, error) {
	account, err := user.Lookup(name)
	if err != nil {
		byNumber, again := user.LookupId(name)
		if again != nil {
			return nil, fmt.Errorf("user %s: %w; the package makes it, or: useradd --system --no-create-home --shell /usr/sbin/nologin %s", name, err, name)
		}
		account = byNumber
	}
	u := &User{Name: account.Username}
	ids, err := account.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %s: %w", name, err)
	}
	if group != "" {
		g, err := user.LookupGroup(group)
		if err != nil {
			byNumber, again := user.LookupGroupId(group)
			if again != nil {
				return nil, fmt.Errorf("group %s: %w", group, err)
			}
			g = byNumber
		}
		account.Gid = g.Gid
	}
	u.UID, err = strconv.Atoi(account.Uid)
	var wrong error
	u.GID, wrong = strconv.Atoi(account.Gid)
	err = errors.Join(err, wrong)
	u.Groups = []int{u.GID}
	for _, id := range ids {
		n, wrong := strconv.Atoi(id)
		err = errors.Join(err, wrong)
		if n != u.GID && n != 0 { // the group root would see what no service should
			u.Groups = append(u.Groups, n)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", name, err)
	}
	return u, nil
}

// maxLooked bounds how many files of a folder are looked at.
const maxLooked = 10_000

// Own makes a folder for a user where it is missing, and looks whether what is in it is its own. What belongs to somebody
// else is not given away here: root must not follow names in a folder that another user may write to.
func (u *User) Own(folder string, mode fs.FileMode) error {
	err := os.Mkdir(folder, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(folder), 0o755); err == nil {
			err = os.Mkdir(folder, mode)
		}
	}
	switch {
	case err == nil:
		return os.Lchown(folder, u.UID, u.GID)
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	looked := 0
	return filepath.WalkDir(resolved(folder), func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // gone meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		if looked++; looked > maxLooked {
			return fs.SkipAll
		}
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if owner, known := ownerOf(info); known && owner != u.UID {
			return fmt.Errorf("%s: %w: it belongs to user %d, and gatepost is to run as %s: stop it and run: chown -R -h %s: %s", path, fs.ErrPermission, owner, u.Name, u.Name, folder)
		}
		return nil
	})
}
