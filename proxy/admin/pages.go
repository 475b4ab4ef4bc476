package admin

import (
	"bytes"
	"embed"
	"html/template"
	"io/fs"
	"net/http"
	"strings"
)

//go:embed web
var web embed.FS

// pages are the templates by the name of their file; each fills in the blocks of layout.html.
var pages = parsePages("login", "now", "search", "transaction", "rules", "observed", "recommended", "trial", "greylist", "learned", "exceptions", "lists", "quarantine", "message",
	"configuration", "problem")

func parsePages(names ...string) map[string]*template.Template {
	list := make(map[string]*template.Template, len(names))
	for _, name := range names {
		t := template.New("layout.html").Funcs(templateFuncs)
		list[name] = template.Must(t.ParseFS(web, "web/layout.html", "web/parts.html", "web/"+name+".html"))
	}
	return list
}

// page is what every template gets.
type page struct {
	Title    string
	Hostname string
	Version  string
	SignedIn bool // there is a password, and who looks at the page has given it
	Menu     []menuItem
	Path     string // with the query, to come back to
	Note     *note
	Data     any // the page's own
}

// menuItem is a page that others lead to.
type menuItem struct {
	Path, Title string
	Current     bool
}

var menu = []menuItem{
	{Path: "/", Title: "Now"}, {Path: "/search", Title: "Search"}, {Path: "/rules", Title: "Rules"}, {Path: "/greylist", Title: "Greylist"},
	{Path: learnedPath, Title: "Learned"}, {Path: "/exceptions", Title: "Exceptions"}, {Path: "/lists", Title: "Lists"}, {Path: quarantinePath, Title: "Quarantine"},
	{Path: "/configuration", Title: "Configuration"},
}

const quarantinePath = "/quarantine"

// show writes a page for somebody who may come in.
func (s *Server) show(w http.ResponseWriter, r *http.Request, status int, name, title string, data any) {
	p := page{Title: title, SignedIn: s.auth() != nil, Note: s.notes.find(r.URL.Query().Get("note")), Data: data, Path: wayBack(r)}
	for _, item := range menu {
		if item.Path == quarantinePath && s.House.Quarantine() == nil || item.Path == learnedPath && len(s.House.Memories()) == 0 {
			continue
		}
		item.Current = r.URL.Path == item.Path || item.Path != "/" && strings.HasPrefix(r.URL.Path, item.Path+"/")
		p.Menu = append(p.Menu, item)
	}
	s.render(w, status, name, p)
}

// wayBack is the address of the page without what was told on it.
func wayBack(r *http.Request) string {
	q := r.URL.Query()
	q.Del("note")
	if len(q) == 0 {
		return r.URL.Path
	}
	return r.URL.Path + "?" + q.Encode()
}

// render writes a page. Nothing is sent before the whole of it is there.
func (s *Server) render(w http.ResponseWriter, status int, name string, p page) {
	p.Hostname, p.Version = s.Hostname, s.Version
	var b bytes.Buffer
	if err := pages[name].ExecuteTemplate(&b, "layout", p); err != nil {
		s.Log.Error("an admin page cannot be made; please report it", "page", name, "error", err)
		http.Error(w, "Internal error; the log has more.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(visible(b.Bytes()))
}

// trouble tells an operator what went wrong with what was asked for.
func (s *Server) trouble(w http.ResponseWriter, r *http.Request, err error) {
	s.show(w, r, statusOf(err), "problem", "That did not work", err.Error())
}

// static serves styles and scripts.
func static() http.Handler {
	files, err := fs.Sub(web, "web/static")
	if err != nil {
		panic(err) // the folder is part of the program
	}
	serve := http.StripPrefix("/static/", http.FileServerFS(files))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") { // no listing of what there is
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Cache-Control", "no-cache")
		serve.ServeHTTP(w, r)
	})
}

// loginData is what login.html shows.
type loginData struct {
	Next  string
	Error string
}

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.URL.Query().Get("next"))
	if s.auth().hasSignedIn(r) {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	s.render(w, http.StatusOK, "login", page{Title: "Sign in", Data: loginData{Next: next}})
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	next := localPath(r.PostFormValue("next"))
	auth := s.auth()
	if auth == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	client := clientOf(r)
	switch found, news := auth.check(bounded(r), client, r.PostFormValue("password")); found {
	case right:
		s.Log.Info("admin: signed in", "client", client.String())
		s.setCookie(w, auth.sessions.begin(auth.clock.Now()), sessionLife)
		http.Redirect(w, r, next, http.StatusSeeOther)
	case tooMany:
		s.tellOfGuesses(client, news)
		w.Header().Set("Retry-After", "30")
		s.render(w, http.StatusTooManyRequests, "login", page{Title: "Sign in", Data: loginData{next, "Too many attempts. Wait a minute and try again."}})
	default:
		s.Log.Warn("admin: wrong password", "client", client.String(), "path", r.URL.Path)
		s.render(w, http.StatusForbidden, "login", page{Title: "Sign in", Data: loginData{next, "That is not the password."}})
	}
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	if auth := s.auth(); auth != nil {
		auth.sessions.end(sessionToken(r))
		s.setCookie(w, "", 0)
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// localPath keeps the way back after sign-in on this server.
func localPath(next string) string {
	if !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}
