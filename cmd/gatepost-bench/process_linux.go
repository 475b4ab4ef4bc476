package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a proxy that is measured.
type process struct {
	cmd    *exec.Cmd
	log    string // file with what it says
	exited chan struct{}
}

// startProcess runs a program whose output goes to a file in folder.
func startProcess(folder, binary string, args ...string) (*process, error) {
	p := &process{log: filepath.Join(folder, "log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = folder, log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C is ours: we stop it in order
		Pdeathsig: syscall.SIGKILL, // and it does not outlive us
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		p.cmd.Wait()
	}()
	return p, nil
}

// stop asks it to end, and makes it after a while.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
	}
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// maxLog is how much of its output a process may leave on the disk. The log is written as in real use and thrown away.
const maxLog = 64 << 20

func (p *process) trimLog() {
	if info, err := os.Stat(p.log); err == nil && info.Size() > maxLog {
		os.Truncate(p.log, 0)
	}
}

// lastWords is the end of its log.
func (p *process) lastWords() string {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// cpu is the processor time that all its threads have used so far. The clock of the process is exact, where /proc/PID/stat
// tells it in steps of 10 ms.
func (p *process) cpu() (time.Duration, error) {
	var used unix.Timespec
	if err := unix.ClockGettime(processClock(p.cmd.Process.Pid), &used); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", p.cmd.Process.Pid, err)
	}
	return time.Duration(used.Nano()), nil
}

// processClock is what clock_getcpuclockid(3) returns: the kernel's include/linux/posix-timers_types.h, CPUCLOCK_SCHED.
func processClock(pid int) int32 { return int32(^pid<<3 | 2) }

// resident is its memory at present, in bytes.
func (p *process) resident() (int64, error) { return p.status("VmRSS") }

// peak is the most it has been since resetPeak.
func (p *process) peak() (int64, error) { return p.status("VmHWM") }

func (p *process) resetPeak() error { return os.WriteFile(p.proc("clear_refs"), []byte("5"), 0) }

func (p *process) status(field string) (int64, error) {
	status, err := os.ReadFile(p.proc("status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/PID/status has no %s", field)
}

func (p *process) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), file)
}

// settle waits until the process does next to nothing any more and its memory stays as it is, for 8 s at most. It
// returns the memory. Runtimes tidy up a moment after their work: all has to be calm for longer than that.
func (p *process) settle() (resident int64, err error) {
	const (
		look  = 300 * time.Millisecond
		calm  = 1800 * time.Millisecond
		most  = 8 * time.Second
		drift = 256 << 10 // bytes
	)
	var used time.Duration
	for quiet, all := time.Duration(0), time.Duration(0); quiet < calm && all < most; all += look {
		lastUsed, lastResident := used, resident
		if used, err = p.cpu(); err != nil {
			return 0, err
		}
		if resident, err = p.resident(); err != nil {
			return 0, err
		}
		if quiet += look; used-lastUsed > look/10 || max(resident-lastResident, lastResident-resident) > drift {
			quiet = 0
		}
		time.Sleep(look)
	}
	return resident, nil
}
