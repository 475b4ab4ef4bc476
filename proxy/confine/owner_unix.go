//go:build unix

package confine

import (
	"io/fs"
	"syscall"
)

func ownerOf(info fs.FileInfo) (id int, known bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}
