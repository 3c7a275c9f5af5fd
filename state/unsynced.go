package state

import "github.com/cockroachdb/pebble/v2/vfs"

// unsynced is a file system that leaves it to the operating system when files
// reach the disk. Working state is worthless after a crash, and what belongs to a
// checkpoint is synced when it is brought to the store; were everything synced
// that Pebble wants to be, it would be seven of ten of all syncs of a job.
type unsynced struct{ vfs.FS }

// Create implements [vfs.FS].
func (u unsynced) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return unsyncedFileOf(u.FS.Create(name, category))
}

// OpenReadWrite implements [vfs.FS].
func (u unsynced) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return unsyncedFileOf(u.FS.OpenReadWrite(name, category, opts...))
}

// ReuseForWrite implements [vfs.FS].
func (u unsynced) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return unsyncedFileOf(u.FS.ReuseForWrite(oldname, newname, category))
}

// OpenDir implements [vfs.FS].
func (u unsynced) OpenDir(name string) (vfs.File, error) {
	return unsyncedFileOf(u.FS.OpenDir(name))
}

// Unwrap implements [vfs.FS].
func (u unsynced) Unwrap() vfs.FS { return u.FS }

type unsyncedFile struct{ vfs.File }

func unsyncedFileOf(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

// Sync implements [vfs.File].
func (unsyncedFile) Sync() error { return nil }

// SyncData implements [vfs.File].
func (unsyncedFile) SyncData() error { return nil }

// SyncTo implements [vfs.File].
func (unsyncedFile) SyncTo(int64) (fullSync bool, err error) { return false, nil }
