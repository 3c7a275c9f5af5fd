//go:build unix

package files

import (
	"io/fs"
	"syscall"
)

// numberOf returns what the file system knows a file by.
func numberOf(fi fs.FileInfo) identity {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return identity{}
	}
	return identity{Dev: uint64(st.Dev), Ino: uint64(st.Ino)} // their types differ between systems
}
