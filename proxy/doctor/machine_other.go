//go:build unix && !linux

package doctor

func openFilesOf(string) (uint64, error) { return 0, errUnknown }

func rightsOf(string) (rights, error) { return rights{}, errUnknown }

func memory() (uint64, error) { return 0, errUnknown }

func synchronised() (bool, error) { return false, errUnknown }
