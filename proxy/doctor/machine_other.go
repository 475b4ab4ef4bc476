//go:build unix && !linux

package doctor

func openFilesOf(string) (uint64, error) { return 0, errUnknown }

func memory() (uint64, error) { return 0, errUnknown }

func synchronised() (bool, error) { return false, errUnknown }
