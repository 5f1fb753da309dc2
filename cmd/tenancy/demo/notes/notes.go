package notes

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Bounds of what is accepted and of one page of a listing.
const (
	MaxBody  = 64 << 10
	MaxRunes = 8_000
	MaxPage  = 50_000
)

// Note is one note. Its id is a UUID that sorts by the time it was written.
type Note struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// App serves notes. Make one with [New].
type App struct {
	db   *sql.DB
	sql  Placeholders
	live *Live
	fail func(http.ResponseWriter, *http.Request, error)
}

// New returns the application on db, which wants such placeholders. New notes are announced on
// live. An error goes to fail, which writes the answer: a [*Failure] is the client's fault,
// anything else is not.
func New(db *sql.DB, p Placeholders, live *Live, fail func(http.ResponseWriter, *http.Request, error)) *App {
	return &App{db: db, sql: p, live: live, fail: fail}
}

// Routes calls handle for each route of the application, all of them below prefix.
func (a *App) Routes(prefix string, handle func(pattern string, h http.Handler)) {
	for pattern, h := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET %s/notes":         a.list,
		"POST %s/notes":        a.create,
		"GET %s/notes/{id}":    a.get,
		"PUT %s/notes/{id}":    a.update,
		"DELETE %s/notes/{id}": a.delete,
		"GET %s/live":          a.live.serve,
	} {
		handle(fmt.Sprintf(pattern, prefix), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				a.fail(w, r, err)
			}
		}))
	}
}

func (a *App) list(w http.ResponseWriter, r *http.Request) error {
	after, limit := r.URL.Query().Get("after"), MaxPage
	if s := r.URL.Query().Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > MaxPage {
			return &Failure{http.StatusBadRequest, fmt.Sprintf("limit is a number from 1 to %d", MaxPage)}
		}
		limit = n
	}
	first := uuid.Nil.String()
	if after != "" {
		if first = noteID(after); first == "" {
			return &Failure{http.StatusBadRequest, "after is the id of a note"}
		}
	}
	notes, err := a.page(r, first, limit)
	if err != nil {
		return err
	}
	if len(notes) == limit {
		w.Header().Set("Link", fmt.Sprintf(`<%s?after=%s&limit=%d>; rel="next"`, r.URL.EscapedPath(), notes[limit-1].ID, limit))
	}
	return writeJSON(w, http.StatusOK, notes)
}

// page reads all rows before anything is written, so that a slow client holds no connection.
func (a *App) page(r *http.Request, after string, limit int) (_ []Note, err error) {
	rows, err := a.db.QueryContext(r.Context(), a.sql(`SELECT id, text FROM notes WHERE id > ? ORDER BY id LIMIT ?`), after, limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	notes := []Note{}
	for rows.Next() {
		var n Note
		if err := rows.Scan(&n.ID, &n.Text); err != nil {
			return nil, err
		}
		notes = append(notes, n)
	}
	return notes, rows.Err()
}

func (a *App) create(w http.ResponseWriter, r *http.Request) error {
	text, err := readText(w, r)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	n := Note{ID: id.String(), Text: text}
	if _, err := a.db.ExecContext(r.Context(), a.sql(`INSERT INTO notes (id, text) VALUES (?, ?)`), n.ID, n.Text); err != nil {
		return err
	}
	a.live.announce(r.Context(), n)
	w.Header().Set("Location", strings.TrimSuffix(r.URL.EscapedPath(), "/")+"/"+n.ID)
	return writeJSON(w, http.StatusCreated, n)
}

func (a *App) get(w http.ResponseWriter, r *http.Request) error {
	n := Note{ID: noteID(r.PathValue("id"))}
	if n.ID == "" {
		return errNoNote
	}
	err := a.db.QueryRowContext(r.Context(), a.sql(`SELECT text FROM notes WHERE id = ?`), n.ID).Scan(&n.Text)
	if errors.Is(err, sql.ErrNoRows) {
		return errNoNote
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, n)
}

func (a *App) update(w http.ResponseWriter, r *http.Request) error {
	n := Note{ID: noteID(r.PathValue("id"))}
	if n.ID == "" {
		return errNoNote
	}
	var err error
	if n.Text, err = readText(w, r); err != nil {
		return err
	}
	res, err := a.db.ExecContext(r.Context(), a.sql(`UPDATE notes SET text = ? WHERE id = ?`), n.Text, n.ID)
	if err := changedOne(res, err); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, n)
}

func (a *App) delete(w http.ResponseWriter, r *http.Request) error {
	id := noteID(r.PathValue("id"))
	if id == "" {
		return errNoNote
	}
	res, err := a.db.ExecContext(r.Context(), a.sql(`DELETE FROM notes WHERE id = ?`), id)
	if err := changedOne(res, err); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// errNoNote is the one answer for a note that is not there, whoever else may have one of
// that id.
var errNoNote = &Failure{http.StatusNotFound, "there is no such note"}

func changedOne(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return errNoNote
	}
	return err
}

// noteID returns the canonical form of a UUID, or "" when s is none.
func noteID(s string) string {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != len(uuid.Nil.String()) {
		return ""
	}
	return id.String()
}

func readText(w http.ResponseWriter, r *http.Request) (string, error) {
	var body struct {
		Text *string `json:"text"`
	}
	if err := ReadJSON(w, r, &body); err != nil {
		return "", err
	}
	switch {
	case body.Text == nil || strings.TrimSpace(*body.Text) == "":
		return "", &Failure{http.StatusBadRequest, `the body is {"text": "…"}, and the text is not empty`}
	case utf8.RuneCountInString(*body.Text) > MaxRunes:
		return "", &Failure{http.StatusBadRequest, fmt.Sprintf("the text is longer than %d characters", MaxRunes)}
	case strings.ContainsRune(*body.Text, 0):
		return "", &Failure{http.StatusBadRequest, "the text has a NUL character, which PostgreSQL cannot store"}
	}
	return *body.Text, nil
}

// Failure is an answer that tells the client what it did wrong.
type Failure struct {
	Status int
	Detail string
}

func (f *Failure) Error() string { return f.Detail }

// ReadJSON reads the request's body, one JSON object of known fields, into v.
func ReadJSON(w http.ResponseWriter, r *http.Request, v any) error {
	switch media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.ToLower(strings.TrimSpace(media)) {
	case "", "application/json":
	case "application/x-www-form-urlencoded": // what curl -d says of every body; it is read as JSON all the same
	default:
		return &Failure{http.StatusUnsupportedMediaType, "send application/json"}
	}
	body := new(bytes.Buffer)
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody)); err != nil {
		if tooLong, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &Failure{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", tooLong.Limit)}
		}
		return &Failure{http.StatusBadRequest, "the body could not be read"}
	}
	if !utf8.Valid(body.Bytes()) {
		return &Failure{http.StatusBadRequest, "the body is not UTF-8"}
	}
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return &Failure{http.StatusBadRequest, "the body is not the JSON that is expected here: " + strings.TrimPrefix(err.Error(), "json: ")}
	}
	if _, err := dec.Token(); err == nil || dec.More() {
		return &Failure{http.StatusBadRequest, "the body goes on after its JSON"}
	}
	return nil
}

// writeJSON answers with v, which no cache may keep.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
	return nil
}
