//go:build mta

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The commands that the pages of the mail servers show do what the pages say, and those under "Undo" leave the files as
// they were. Services are not restarted: there are none in the folder.
func TestMTACommandsOfTheManual(t *testing.T) {
	prepareRoot(t)
	s := &site{root: mtaRoot(t)}
	from := func(path string) string {
		text, err := os.ReadFile(filepath.Join(s.root, path))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for page, c := range map[string]struct {
		file, before string
		after        []string // lines that are there then
		gone         string
	}{
		"postfix": {"/etc/postfix/master.cf", from("/usr/share/postfix/master.cf.dist"),
			append([]string{"127.0.0.1:10025inetn-y--smtpd"}, squeezed(documented(t, "postfix", "static:all"))[1:]...), "smtpinetn-y--smtpd"},
		"exim": {"/etc/exim4/update-exim4.conf.conf", "dc_eximconfig_configtype='internet'\ndc_local_interfaces='127.0.0.1 ; ::1'\n",
			[]string{"dc_local_interfaces='127.0.0.1.10025'"}, "dc_local_interfaces='127.0.0.1;::1'"},
		"courier":   {"/etc/courier/esmtpd", "# ADDRESS=127.0.0.1\nADDRESS_X=1\nPORT=smtp\nMAXPERIP=5\nTARPIT=1\n", []string{"ADDRESS=127.0.0.1", "PORT=10025", "MAXPERIP=100", "TARPIT=0"}, "PORT=smtp"},
		"opensmtpd": {"/etc/smtpd.conf", "listen on lo\naction \"box\" maildir\nmatch from any for domain \"example.org\" action \"box\"\n", []string{"listenonlo"}, "nothing"},
		"sendmail":  {"/etc/mail/sendmail.mc", "OSTYPE(`debian')\n", []string{"OSTYPE(`debian')"}, "nothing"},
	} {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "..", "docs", "mta", page+".md"))
			if err != nil {
				t.Fatal(err)
			}
			do, undo, ok := strings.Cut(string(text), "\n## Undo\n")
			if !ok {
				t.Fatal("there is no way back")
			}
			s.putBackAfter(t, c.file)
			s.putBackAfter(t, "/etc/mail/sendmail.cf")
			s.write(t, c.file, c.before)
			s.write(t, "/etc/mail/sendmail.cf", "")
			s.call(t, onTheMailServer(t, page, do))
			lines := squeezed(from(c.file))
			for _, want := range c.after {
				if !slices.Contains(lines, want) {
					t.Errorf("%s has no line %q:\n%s", c.file, want, from(c.file))
				}
			}
			if slices.Contains(lines, c.gone) {
				t.Errorf("%s still has %q", c.file, c.gone)
			}
			s.call(t, onTheMailServer(t, page, undo))
			if from(c.file) != c.before {
				t.Errorf("%s is not what it was:\n%s", c.file, from(c.file))
			}
		})
	}
}

// putBackAfter leaves a file below the root to other tests as its package brought it.
func (s *site) putBackAfter(t *testing.T, path string) {
	path = filepath.Join(s.root, path)
	was, err := os.ReadFile(path)
	t.Cleanup(func() {
		if err != nil {
			os.Remove(path)
			return
		}
		write(t, path, string(was))
	})
}

// onTheMailServer is the script of a page, without what asks a running service.
func onTheMailServer(t *testing.T, page, text string) string {
	t.Helper()
	var script strings.Builder
	for _, f := range fencesOf(page, text) {
		if f.info != "sh on the mail server" {
			continue
		}
		lines, err := shellLines(f.text)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			switch last := l.commands[len(l.commands)-1]; {
			case last[0] == "systemctl", strings.Join(last, " ") == "postfix reload":
			default:
				script.WriteString(strings.TrimLeft(l.text, "\n") + "\n")
			}
		}
	}
	return script.String()
}

// squeezed are the lines of a text without white space, since postconf aligns columns as it likes.
func squeezed(text string) (lines []string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), ""))
	}
	return lines
}
