package wire

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-milter"
	"pgregory.net/rapid"
)

// frames reads all frames.
func frames(t *testing.T, r *Reader) (list []string) {
	t.Helper()
	for {
		code, _, err := r.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := r.Data()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(code)+string(data))
	}
}

func TestFramesArriveInAnyPieces(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var stream []byte
		var want []string
		for range rapid.IntRange(0, 6).Draw(rt, "frames") {
			code := rapid.SampledFrom([]byte("LBEMR")).Draw(rt, "code")
			data := bytes.Repeat([]byte{rapid.Byte().Draw(rt, "byte")}, rapid.SampledFrom([]int{0, 1, 100, readSize - 1, readSize, step, 3*step + 7}).Draw(rt, "size"))
			stream = Append(stream, code, data)
			want = append(want, string(code)+string(data))
		}
		for _, source := range []io.Reader{bytes.NewReader(stream), iotest.HalfReader(bytes.NewReader(stream)), iotest.DataErrReader(bytes.NewReader(stream))} {
			if got := frames(t, NewReader(source)); !slices.Equal(got, want) {
				rt.Fatalf("%d frames, want %d", len(got), len(want))
			}
		}
	})
}

func TestBadFrames(t *testing.T) {
	for name, stream := range map[string]string{
		"length 0":            "\x00\x00\x00\x00L",
		"torn head":           "\x00\x00\x00",
		"torn data":           "\x00\x00\x00\x05Lab",
		"huge":                "\xff\xff\xff\xffL",
		"larger than a field": "\x00\x08\x00\x00L",
		"larger than a chunk": "\x00\x20\x00\x00B",
	} {
		r := NewReader(strings.NewReader(stream))
		_, _, err := r.Next()
		if err == nil {
			_, err = r.Data()
		}
		if err == nil || err == io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnreadDataIsSkipped(t *testing.T) {
	r := NewReader(bytes.NewReader(Append(Append(nil, 'B', "a body"), 'Q', "")))
	r.Next()
	if n, err := r.Read(make([]byte, 2)); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	if code, size, err := r.Next(); code != 'Q' || size != 0 || err != nil {
		t.Errorf("%q %d %v", code, size, err)
	}
	if n, err := r.Read(make([]byte, 2)); n != 0 || err != io.EOF {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}

func TestAnnouncedDataTakesNoMemory(t *testing.T) {
	stream := "\x00\x04\x00\x00Lshort"
	r := NewReader(strings.NewReader(stream))
	r.Next()
	if _, err := r.Data(); err == nil || cap(r.data) > step {
		t.Errorf("%d bytes held for 5 that arrived, %v", cap(r.data), err)
	}
}

func TestNegotiation(t *testing.T) {
	n := Negotiation{Version: 6, Actions: 0x1ff, Protocol: 0x1fffff, Macros: []MacroRequest{
		{milter.StageConnect, []string{"j", "{client_addr}"}}, {milter.StageEOM, []string{"i"}}}}
	frame := n.AppendTo(nil)
	got, err := ParseNegotiation(frame[headSize:])
	if err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "\x00\x00\x00\x06", string(frame[headSize : len(frame)-1])} {
		if _, err := ParseNegotiation([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestConnect(t *testing.T) {
	for _, c := range []Connect{
		{"mail.example.org", milter.FamilyInet, 25, "192.0.2.1"}, {"[2001:db8::1]", milter.FamilyInet6, 65535, "2001:db8::1"},
		{"localhost", milter.FamilyUnix, 0, "/run/socket"}, {"localhost", milter.FamilyUnknown, 0, ""},
	} {
		if got, err := ParseConnect(c.AppendTo(nil)[headSize:]); err != nil || got != c {
			t.Errorf("%+v, %v, want %+v", got, err, c)
		}
	}
	for _, bad := range []string{"", "name", "name\x00", "name\x004", "name\x00X\x00\x19a\x00"} {
		if _, err := ParseConnect([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestTexts(t *testing.T) {
	data := AppendTexts(nil, 'M', "<a@b>", "SIZE=1", "X\x00Y")[headSize:]
	if path, params := Envelope(data); path != "<a@b>" || !slices.Equal(params, []string{"SIZE=1", "X"}) {
		t.Errorf("%q %q", path, params)
	}
	if name, value, ok := Header([]byte("Subject\x00 a\x00b\n\tc\x00")); string(name) != "Subject" || string(value) != " a\x00b\n\tc" || !ok {
		t.Errorf("%q %q %t", name, value, ok)
	}
	if name, value, ok := Header([]byte("X-Empty\x00\x00")); string(name) != "X-Empty" || len(value) > 0 || !ok {
		t.Errorf("%q %q %t", name, value, ok)
	}
	command, macros := Macros(AppendMacros(nil, milter.CodeMail, "i", "4X", "{auth_authen}", "")[headSize:])
	var list []string
	for name, value := range macros {
		list = append(list, string(name)+"="+string(value))
	}
	if command != milter.CodeMail || !slices.Equal(list, []string{"i=4X", "{auth_authen}="}) {
		t.Errorf("%c %q", command, list)
	}
}

func TestReplies(t *testing.T) {
	lines := []string{"5.7.1 100% sure", "5.7.1 really"}
	data := AppendReply(nil, 550, lines)[headSize:]
	if string(data) != "550-5.7.1 100%% sure\r\n550 5.7.1 really\x00" {
		t.Errorf("%q", data)
	}
	if code, got, ok := ParseReply(data); code != 550 || !slices.Equal(got, lines) || !ok {
		t.Errorf("%d %q %t", code, got, ok)
	}
	for _, bad := range []string{"", "250 fine", "55", "-55 x", "550-a\r\n551 b", "999 x", "5xx y", "550/x"} {
		if _, _, ok := ParseReply([]byte(bad)); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestHeaderEdits(t *testing.T) {
	e := HeaderEdit{3, "X-A", " b\n\tc"}
	if got, ok := ParseHeaderEdit(e.AppendTo(nil, milter.ActChangeHeader)[headSize:]); got != e || !ok {
		t.Errorf("%+v %t", got, ok)
	}
	for _, bad := range []string{"", "\x00\x00\x00\x01", "\x00\x00\x00\x01name", "\x00\x00\x00\x01\x00v\x00"} {
		if _, ok := ParseHeaderEdit([]byte(bad)); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestLibraryReadsOurFrames: the other implementation at hand understands what is written here.
func TestLibraryReadsOurFrames(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	client := milter.NewClientWithOptions("pipe", "", milter.ClientOptions{Dialer: dialer{theirs}, ActionMask: 0x3f, ProtocolMask: 0x1ff})
	done := make(chan error, 1)
	go func() {
		done <- func() error {
			r := NewReader(ours)
			if _, _, err := r.Next(); err != nil {
				return err
			}
			data, _ := r.Data()
			n, err := ParseNegotiation(data)
			if err != nil {
				return err
			}
			n.Protocol = 0
			if _, err := ours.Write(n.AppendTo(nil)); err != nil {
				return err
			}
			if code, _, err := r.Next(); code != 'H' || err != nil {
				return errors.New("no HELO")
			}
			_, err = ours.Write(AppendReply(nil, 451, []string{"4.7.1 later"}))
			return err
		}()
	}()
	session, err := client.Session()
	if err != nil {
		t.Fatal(err)
	}
	action, err := session.Helo("client.example.org")
	if err != nil || action.SMTPCode != 451 || action.SMTPText != "4.7.1 later" {
		t.Errorf("%+v, %v", action, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	theirs.Close()
}

type dialer struct{ conn net.Conn }

func (d dialer) Dial(string, string) (net.Conn, error) { return d.conn, nil }

// FuzzFrames: whatever comes, reading ends, and what was parsed is what was there.
func FuzzFrames(f *testing.F) {
	offer := Negotiation{Version: 6, Actions: 0x1ff, Protocol: 0x1fffff, Macros: []MacroRequest{{0, []string{"j"}}}}
	connect := Connect{"mail.example.org", milter.FamilyInet6, 25, "2001:db8::1"}
	edit := HeaderEdit{1, "Subject", "x"}
	f.Add(offer.AppendTo(nil))
	f.Add(AppendTexts(connect.AppendTo(AppendMacros(nil, 'C', "j", "mx")), 'M', "<a@b>", "SIZE=1"))
	f.Add(edit.AppendTo(AppendReply(nil, 550, []string{"a", "b"}), milter.ActInsertHeader))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := NewReader(bytes.NewReader(stream))
		for {
			_, size, err := r.Next()
			if err != nil {
				return
			}
			data, err := r.Data()
			if err != nil {
				if cap(r.data) > len(stream)+2*step {
					t.Fatalf("%d bytes held for %d", cap(r.data), len(stream))
				}
				return
			}
			if len(data) != size {
				t.Fatalf("%d bytes of %d", len(data), size)
			}
			if n, err := ParseNegotiation(data); err == nil && len(n.Macros) > 8 {
				t.Fatalf("%d requests", len(n.Macros))
			}
			if c, err := ParseConnect(data); err == nil && strings.Contains(c.Name+c.Address, "\x00") {
				t.Fatalf("%+v", c)
			}
			if code, lines, ok := ParseReply(data); ok && (code < 400 || code > 599 || len(lines) == 0) {
				t.Fatalf("%d %q", code, lines)
			}
			_, macros := Macros(data)
			for name, value := range macros {
				if bytes.Contains(name, nul) || bytes.Contains(value, nul) {
					t.Fatalf("%q %q", name, value)
				}
			}
			Envelope(data)
			Header(data)
			ParseHeaderEdit(data)
		}
	})
}
