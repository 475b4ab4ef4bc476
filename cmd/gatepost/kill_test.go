package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatepost/proxy/backend/backendtest"
	"gatepost/proxy/control"
	"gatepost/proxy/journal"
)

// mayForget is how old what a kill takes along may be: what store and journal promise.
const mayForget = time.Second

const killSettings = `journal: {path: journal}
duplicates: suppress
filters: {greylist: {delay: 1h}}
rules:
  - {name: grey, when: 'mail.domain == "grey.test"', then: greylist}
  - {name: kept, when: 'mail.domain == "kept.test"', then: quarantine}
`

// killed is a proxy under load that is killed again and again, and what it has told its clients.
type killed struct {
	*served
	rng *rand.Rand

	mu        sync.Mutex // guards what follows
	next      int
	told      map[string]told      // by sender: what was said in the end
	delivered map[string]int       // how often the backend has got it
	copies    map[string]time.Time // senders that left without confirming the reply, since when

	looked time.Time // when the last look was taken: what was told before has been there then
	clear  []string  // files of the quarantine that have been seen, for an operator to remove
}

type told struct {
	code     int
	at       time.Time
	forgiven bool // it was said in the last moment before a kill
	seen     bool // it was there after a start
}

// TestKill9UnderLoad kills the process at random moments, while clients of every kind are at work, and looks after each
// start at what the last process had promised. GATEPOST_KILLS says how often, GATEPOST_KILL_SEED repeats.
func TestKill9UnderLoad(t *testing.T) {
	kills, seed := 8, uint64(time.Now().UnixNano())
	if underRace {
		kills = 5
	}
	if n, err := strconv.Atoi(os.Getenv("GATEPOST_KILLS")); err == nil {
		kills = n
	}
	if n, err := strconv.ParseUint(os.Getenv("GATEPOST_KILL_SEED"), 10, 64); err == nil {
		seed = n
	}
	k := &killed{rng: rand.New(rand.NewPCG(seed, 0)), told: map[string]told{}, delivered: map[string]int{}, copies: map[string]time.Time{}}
	sink, err := backendtest.Start(backendtest.Behaviour{Domains: []string{"example.org"}, Deliver: func(m *backendtest.Message) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.delivered[m.Sender]++
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sink.Close)
	k.served = &served{t: t, folder: quickFolder(t), backend: sink}
	k.file = filepath.Join(k.folder, "gatepost.yaml")
	k.configure(settings + killSettings + "listen:\n  - {address: '127.0.0.1:0'}\n")
	resent := 0
	k.run()
	for done := 0; done < kills && !t.Failed(); done++ {
		k.killUnderLoad()
		resent += k.sendAgain()
	}
	k.lookAtAll()
	k.signal(syscall.SIGTERM)
	if status := k.exit(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	counts := map[int]int{}
	for _, r := range k.told {
		counts[r.code]++
	}
	fmt.Printf("kill -9: %d kills (seed %d), %d delivered, %d greylisted, %d in quarantine, %d resent and suppressed, %d without a reply\n",
		kills, seed, counts[250], counts[451], counts[-250], resent, counts[0])
	if counts[250] == 0 || counts[451] == 0 || counts[-250] == 0 || counts[0] == 0 && kills > 5 {
		t.Error("this shows nothing")
	}
}

// quickFolder is in memory where there is such a disk. To a process that is killed it is as good as any, and no other
// program's writes hold up the syncs: a sync that takes long is added to what may be forgotten.
func quickFolder(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "gatepost-kill-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	return folder
}

// killUnderLoad puts the process under load, kills it, starts it again and looks at what is left.
func (k *killed) killUnderLoad() {
	k.t.Helper()
	var clients sync.WaitGroup
	for range 6 {
		seed := k.rng.Uint64()
		clients.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 0))
			for k.send(rng) {
			}
		})
	}
	// From the first moments after a start to well behind what may be forgotten.
	<-time.After(time.Duration(k.rng.Int64N(int64(2200 * time.Millisecond))))
	at := time.Now()
	k.signal(syscall.SIGKILL)
	k.exit()
	clients.Wait()
	for _, file := range k.clear {
		os.Remove(file)
	}
	k.clear = nil
	k.run()
	k.look(at)
}

var kinds = []string{"good.test", "good.test", "grey.test", "kept.test", "copy.test"}

// lettered makes a word of a number: greylisting takes senders that differ in numbers, decimal or
// hexadecimal, for one, and all words of six letters without a vowel: hence two words.
var lettered = strings.NewReplacer("0", "g", "1", "h", "2", "i", "3", "j", "4", "k", "5", "l", "6", "m", "7", "n", "8", "o", "9", "p")

// send sends one message; false: the process is gone.
func (k *killed) send(rng *rand.Rand) (alive bool) {
	k.mu.Lock()
	k.next++
	kind := kinds[rng.IntN(len(kinds))]
	sender := lettered.Replace(fmt.Sprintf("%03d.%03d", k.next/1000, k.next%1000)) + "@" + kind
	k.told[sender] = told{}
	k.mu.Unlock()
	code, alive := k.letter(sender, kind != "copy.test")
	k.mu.Lock()
	defer k.mu.Unlock()
	if code == 250 && kind == "kept.test" {
		code = -250
	}
	k.told[sender] = told{code: code, at: time.Now()}
	if code == 250 && kind == "copy.test" {
		k.copies[sender] = time.Now()
	}
	return alive
}

// letter returns the last reply's code, 0 without one. Who confirms says QUIT behind it.
func (k *killed) letter(sender string, confirm bool) (code int, alive bool) {
	conn, err := net.Dial("tcp", k.address)
	if err != nil {
		return 0, false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	reply := func() int {
		for {
			line, err := in.ReadString('\n')
			if err != nil || len(line) < 4 {
				return 0
			}
			if n, err := strconv.Atoi(line[:3]); err == nil && line[3] == ' ' {
				return n
			}
		}
	}
	steps := []struct {
		say  string
		want int
	}{{"", 220}, {"EHLO client.example.net", 250}, {"MAIL FROM:<" + sender + ">", 250}, {"RCPT TO:<alice@example.org>", 250}, {"DATA", 354},
		{"Subject: " + sender + "\r\n\r\nHello\r\n.", 250}}
	for _, step := range steps {
		if step.say != "" {
			fmt.Fprintf(conn, "%s\r\n", step.say)
		}
		if code = reply(); code != step.want {
			return code, code != 0
		}
	}
	if confirm {
		fmt.Fprint(conn, "QUIT\r\n")
		reply()
	}
	return code, true
}

// sendAgain sends what was delivered and not confirmed, as clients do that have not read the reply.
func (k *killed) sendAgain() (suppressed int) {
	k.t.Helper()
	for sender, since := range k.copies {
		delete(k.copies, sender)
		if suppressed == 3 || since.IsZero() {
			continue
		}
		before := k.delivered[sender]
		if code, _ := k.letter(sender, true); code != 250 || k.delivered[sender] != before {
			k.t.Errorf("a message whose delivery was not confirmed is delivered again, or refused: %s, %d, %d deliveries", sender, code, k.delivered[sender])
		}
		suppressed++
	}
	return suppressed
}

// look compares what is there with what was promised to the moment of the kill.
func (k *killed) look(killed time.Time) {
	k.t.Helper()
	for _, bad := range []string{"level=ERROR", "set aside", "panic"} {
		if line, _ := k.log.find(bad); line != "" {
			k.t.Errorf("the start was not clean: %s", line)
		}
	}
	marks := k.marks()
	journalled := k.journalled(k.looked.Add(-patience))
	kept := k.inQuarantine()
	k.looked = time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	killed = k.lastAnswer(killed)
	for sender, at := range k.copies { // what the last moment has taken along may be delivered twice
		if killed.Sub(at) < mayForget {
			delete(k.copies, sender)
		}
	}
	for sender, r := range k.told {
		if r.seen {
			continue
		}
		old := killed.Sub(r.at)
		r.forgiven, r.seen = old < mayForget, true
		k.told[sender] = r
		switch {
		case r.code == 250 && k.delivered[sender] != 1, k.delivered[sender] > 1:
			k.t.Errorf("%s was told %d and delivered %d times", sender, r.code, k.delivered[sender])
		case r.code == -250 && !kept[sender]:
			k.t.Errorf("%s was told 250 and is not in quarantine", sender)
		case r.code == 451 && !r.forgiven && !marks[sender]:
			k.t.Errorf("%s was greylisted %s before the kill and is forgotten", sender, old)
		case (r.code == 250 || r.code == -250) && !r.forgiven && !journalled[sender]:
			k.t.Errorf("%s was answered %s before the kill and is not in the journal", sender, old)
		}
	}
}

// lookAtAll looks once more at what was there after the start that followed: it has to be there behind all the others.
func (k *killed) lookAtAll() {
	k.t.Helper()
	marks, journalled := k.marks(), k.journalled(time.Time{})
	k.mu.Lock()
	defer k.mu.Unlock()
	for sender, r := range k.told {
		switch {
		case r.code == 250 && k.delivered[sender] != 1, k.delivered[sender] > 1:
			k.t.Errorf("%s was told %d and delivered %d times", sender, r.code, k.delivered[sender])
		case !r.seen || r.forgiven:
		case r.code == 451 && !marks[sender]:
			k.t.Errorf("%s was remembered after the next start and is forgotten after another", sender)
		case (r.code == 250 || r.code == -250) && !journalled[sender]:
			k.t.Errorf("%s was in the journal after the next start and is not after another", sender)
		}
	}
}

// lastAnswer is when a client heard something last. On a machine that is short of processors the process may not have
// run for a while before it was killed, so neither answered nor written anything.
func (k *killed) lastAnswer(killed time.Time) (last time.Time) {
	for _, r := range k.told {
		if r.code != 0 && r.at.After(last) && r.at.Before(killed) {
			last = r.at
		}
	}
	return last
}

var senderPattern = regexp.MustCompile(`[g-p]+\.[g-p]+@[a-z]+\.test`)

// marks are the senders that the running process remembers.
func (k *killed) marks() map[string]bool {
	k.t.Helper()
	found := map[string]bool{}
	err := control.Stream(k.t.Context(), filepath.Join(k.folder, "state", control.Name), "store.read", nil, func(item storeMark) bool {
		found[string(senderPattern.Find(item.Key))] = true
		return true
	})
	if err != nil {
		k.t.Error(err)
	}
	return found
}

// journalled are the senders in the journal, since a time.
func (k *killed) journalled(since time.Time) map[string]bool {
	k.t.Helper()
	found := map[string]bool{}
	r, err := journal.NewReader(filepath.Join(k.folder, "journal"), func(d journal.Damage) { k.t.Errorf("the journal is damaged: %v", d) })
	if err != nil {
		k.t.Fatal(err)
	}
	defer r.Close()
	err = r.Each(k.t.Context(), journal.Query{Since: since}, func(e *journal.Entry) bool {
		if e.Envelope != nil {
			found[strings.Clone(e.Envelope.ReversePath)] = true
		}
		return true
	})
	if err != nil {
		k.t.Error(err)
	}
	return found
}

// inQuarantine are the senders whose messages are there, whole. They are taken out before the next start, as an operator
// does: there is room for a bounded number.
func (k *killed) inQuarantine() map[string]bool {
	k.t.Helper()
	found := map[string]bool{}
	files, err := filepath.Glob(filepath.Join(k.folder, "state", "quarantine", "new", "*"))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			k.t.Error(err)
		}
		if strings.HasSuffix(string(text), "Hello\r\n") {
			found[string(senderPattern.Find(text))] = true
		}
		k.clear = append(k.clear, file, filepath.Join(k.folder, "state", "quarantine", "about", filepath.Base(file)+".json"))
	}
	return found
}
