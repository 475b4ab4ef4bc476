package sockets

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// firstDescriptor is where descriptors begin that were handed to a process; those before are input, output and errors.
const firstDescriptor = 3

// maxGiven bounds what is believed of the environment.
const maxGiven = 1024

const (
	variable        = "GATEPOST_SOCKETS"
	systemdPID      = "LISTEN_PID"
	systemdCount    = "LISTEN_FDS"
	systemdNames    = "LISTEN_FDNAMES"
	systemdWatchPID = "WATCHDOG_PID"
)

// Given takes what this process was started with. link leads to the predecessor; nil: there is none. The environment says
// nothing of it afterwards, so that no other program believes it.
func Given() (s *Set, link *net.UnixConn, err error) {
	text := os.Getenv(variable)
	pid, count, names := os.Getenv(systemdPID), os.Getenv(systemdCount), os.Getenv(systemdNames)
	for _, name := range []string{variable, systemdPID, systemdCount, systemdNames} {
		os.Unsetenv(name)
	}
	switch {
	case text != "":
		return fromPredecessor(text)
	case count != "" && pid == strconv.Itoa(os.Getpid()):
		s, err = fromSystemd(count, names)
		return s, nil, err
	}
	return &Set{}, nil, nil
}

func fromPredecessor(text string) (*Set, *net.UnixConn, error) {
	var labels []Label
	if err := json.Unmarshal([]byte(text), &labels); err != nil || len(labels) > maxGiven {
		return nil, nil, fmt.Errorf("%s in the environment is not what a gatepost hands over: %v", variable, err)
	}
	s := &Set{}
	for i, label := range labels {
		l, err := listener(firstDescriptor + i)
		if err != nil {
			return nil, nil, err
		}
		s.given = append(s.given, &given{Label: label, listener: l})
	}
	file := descriptor(firstDescriptor + len(labels))
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, nil, fmt.Errorf("the link to the gatepost that ran before: %w", err)
	}
	link, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.New("the link to the gatepost that ran before is no UNIX socket")
	}
	return s, link, nil
}

func fromSystemd(count, names string) (*Set, error) {
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxGiven {
		return nil, fmt.Errorf("%s=%q is no number of sockets", systemdCount, count)
	}
	s := &Set{}
	list := strings.Split(names, ":")
	for i := range n {
		l, err := listener(firstDescriptor + i)
		if err != nil {
			return nil, fmt.Errorf("a socket of systemd's cannot be used (each must be of ListenStream=): %w", err)
		}
		g := &given{Label: Label{Keep: true}, systemd: true, listener: l}
		if i < len(list) {
			g.Name = list[i]
		}
		s.given = append(s.given, g)
	}
	return s, nil
}

// descriptor makes a file of a descriptor that no program of ours inherits.
func descriptor(number int) *os.File {
	syscall.CloseOnExec(number)
	return os.NewFile(uintptr(number), "descriptor "+strconv.Itoa(number))
}

func listener(number int) (net.Listener, error) {
	f := descriptor(number)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is no listening socket: %w", number, err)
	}
	return l, nil
}

// Start runs a successor: a binary with arguments, the first of which is its name, this process's output, the sockets, and
// link as its end of a link.
func (b *Baton) Start(binary string, arguments []string, link int) (*os.Process, error) {
	text, err := json.Marshal(b.labels)
	if err != nil {
		return nil, err
	}
	attributes := &syscall.ProcAttr{Files: []uintptr{0, 1, 2}}
	for _, descriptor := range append(slices.Clone(b.descriptors), link) {
		attributes.Files = append(attributes.Files, uintptr(descriptor))
	}
	for _, entry := range os.Environ() {
		// systemd watches whoever tells it to; the number is that of the process it has started.
		if name, _, _ := strings.Cut(entry, "="); name != systemdWatchPID {
			attributes.Env = append(attributes.Env, entry)
		}
	}
	attributes.Env = append(attributes.Env, variable+"="+string(text))
	pid, err := syscall.ForkExec(binary, arguments, attributes)
	if err != nil {
		return nil, &os.PathError{Op: "fork/exec", Path: binary, Err: err}
	}
	return os.FindProcess(pid)
}
