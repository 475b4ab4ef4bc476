package admin

import "net/http"

// pageRoutes are the pages, and what their forms do.
func (s *Server) pageRoutes() {
	for pattern, handle := range map[string]http.HandlerFunc{
		"GET /{$}":                      s.nowPage,
		"GET /events":                   s.events,
		"GET /search":                   s.searchPage,
		"GET /why":                      s.whyPage,
		"GET /transaction/{id}":         s.transactionPage,
		"GET /rules":                    s.rulesPage,
		"GET /rules/observed":           s.observedPage,
		"GET /rules/recommended":        s.recommendedPage,
		"POST /rules/try":               s.tryPage,
		"POST /rules/download":          s.download,
		"GET /greylist":                 s.greylistPage,
		"POST /greylist/pass":           s.passGreylist,
		"POST /greylist/forget":         s.forgetGreylist,
		"GET /learned":                  s.learnedPage,
		"GET /learned/{memory}":         s.learnedPage,
		"POST /learned/{memory}/forget": s.forgetLearned,
		"GET /exceptions":               s.exceptionsPage,
		"POST /exceptions":              s.addException,
		"POST /exceptions/end":          s.removeException,
		"GET /lists":                    s.listsPage,
		"GET /configuration":            s.configurationPage,

		"GET " + quarantinePath:                    s.quarantinePage,
		"GET " + quarantinePath + "/{id}":          s.messagePage,
		"POST " + quarantinePath + "/{id}/release": s.releaseMessage,
		"POST " + quarantinePath + "/{id}/delete":  s.deleteMessage,
	} {
		s.Handle(pattern, handle)
	}
}
