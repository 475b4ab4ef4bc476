package sink

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Sink {
	t.Helper()
	s, err := Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// talk sends all at once and returns what the sink says until it hangs up, or until it has said so many lines.
func talk(t *testing.T, s *Sink, lines int, text string) []string {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := bufio.NewScanner(conn); len(got) < lines && r.Scan(); {
		got = append(got, r.Text())
	}
	return got
}

func codes(lines []string) string {
	var all []string
	for _, l := range lines {
		all = append(all, l[:4])
	}
	return strings.Join(all, "")
}

func TestDialogues(t *testing.T) {
	const ehlo, answer = "EHLO c.example.net\r\n", "250-250-250-250-250-250-250-250-250 "
	const envelope = "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n"
	for _, test := range []struct {
		name, say, hear string
		counts          Counts
	}{
		{"one message", ehlo + envelope + "DATA\r\nabc\r\n.\r\nQUIT\r\n", answer + "250 250 354 250 221 ", Counts{Messages: 1, Bytes: 5}},
		{"an empty message", ehlo + envelope + "DATA\r\n.\r\nQUIT\r\n", answer + "250 250 354 250 221 ", Counts{Messages: 1}},
		{"a bare line feed ends nothing", ehlo + envelope + "DATA\r\nabc\n.\nQUIT\n.\r\n\r\n.\r\nQUIT\r\n", answer + "250 250 354 250 221 ", Counts{Messages: 1, Bytes: 16}},
		{"chunks", ehlo + envelope + "BDAT 3\r\nabcBDAT 2 LAST\r\ndeQUIT\r\n", answer + "250 250 250 250 221 ", Counts{Messages: 1, Bytes: 5}},
		{"an empty last chunk", ehlo + envelope + "BDAT 3\r\nabcBDAT 0 LAST\r\nQUIT\r\n", answer + "250 250 250 250 221 ", Counts{Messages: 1, Bytes: 3}},
		{"XCLIENT again and again", "EHLO p\r\nXCLIENT NAME=a ADDR=192.0.2.1\r\n" + ehlo + envelope + "BDAT 1 LAST\r\naXCLIENT NAME=a ADDR=192.0.2.2\r\nMAIL FROM:<>\r\nQUIT\r\n",
			answer + "220 " + answer + "250 250 250 220 503 221 ", Counts{Messages: 1, Bytes: 1}},
		{"XCLIENT in a transaction", ehlo + envelope + "XCLIENT NAME=a ADDR=192.0.2.1\r\nQUIT\r\n", answer + "250 250 503 221 ", Counts{}},
		{"no relay", ehlo + "MAIL FROM:<>\r\nRCPT TO:<probe@gatepost-probe.invalid>\r\nDATA\r\nQUIT\r\n", answer + "250 550 503 221 ", Counts{}},
		{"out of sequence", "MAIL FROM:<>\r\n" + ehlo + "RCPT TO:<b@example.org>\r\nDATA\r\nBDAT 3\r\n", "503 " + answer + "503 503 503 ", Counts{}},
		{"RSET", ehlo + envelope + "RSET\r\nDATA\r\nNOOP\r\nVRFY x\r\nquit\r\n", answer + "250 250 250 503 250 500 221 ", Counts{}},
		{"a message that does not end", ehlo + envelope + "DATA\r\nabc\r\n.\n", answer + "250 250 354 ", Counts{Broken: 1}},
		{"a chunk that does not end", ehlo + envelope + "BDAT 3 LAST\r\nab", answer + "250 250 ", Counts{Broken: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := start(t, Options{Chunking: true})
			want := "220 " + test.hear
			if got := codes(talk(t, s, len(want)/4, test.say)); got != want {
				t.Errorf("heard %q, want %q", got, want)
			}
			s.Close()
			if got := s.Counts(); got != test.counts {
				t.Errorf("counted %+v, want %+v", got, test.counts)
			}
		})
	}
}

func TestChunkingCanBeSwitchedOff(t *testing.T) {
	s := start(t, Options{})
	got := talk(t, s, 100, "EHLO c.example.net\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nBDAT 3 LAST\r\nabcQUIT\r\n")
	if all := strings.Join(got, "\n"); strings.Contains(all, "CHUNKING") || !strings.HasPrefix(got[len(got)-1], "500") {
		t.Errorf("without chunking the sink said:\n%s", all)
	}
}

func TestACommandMayComeInPieces(t *testing.T) {
	s := start(t, Options{})
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(conn)
	for _, piece := range []string{"", "NO", "OP", "\r", "\nRS", "ET\r\n"} {
		if _, err := conn.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
	}
	for _, code := range []string{"220", "250", "250"} {
		if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, code) {
			t.Fatalf("want %s, got %q, %v", code, line, err)
		}
	}
}
