package letters

import (
	"bufio"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"markread/consumer/deadletter"
	"markread/worker/console/respond"
)

const (
	exportTimeout = 10 * time.Minute
	stallTimeout  = 30 * time.Second // of the receiver of an export
	retryExport   = 10 * time.Second
)

// export responds to a form with a download of all dead letters of a filter, oldest first.
func (l *Letters) export(w http.ResponseWriter, r *http.Request) {
	if err := l.tryExport(w, r); err != nil {
		fail(w, r, err)
	}
}

func (l *Letters) tryExport(w http.ResponseWriter, r *http.Request) error {
	f, format, err := parseForm(w, r)
	if err != nil {
		return err
	}
	now := time.Now()
	filter, states, err := f.parse(now)
	if err != nil {
		return err
	}
	select {
	case l.exports <- struct{}{}:
		defer func() { <-l.exports }()
	default:
		return respond.Busy(retryExport, "others are exporting dead letters; try again when "+
			"they have finished")
	}
	allow(w, exportTimeout+stallTimeout)
	ctx, cancel := context.WithTimeout(r.Context(), exportTimeout)
	defer cancel()
	var found []deadletter.Entry
	var seen view
	err = l.withIndex(ctx, filter, func(v view) { found, seen = v.search.Find(states...), v })
	if err != nil {
		return err
	}
	name := "dead-letters-" + now.UTC().Format("20060102T150405Z")
	if seen.partial {
		name += "-incomplete"
	}
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+"."+format+`"`)
	add := ndjson
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(stallLimit{w}, 64<<10)
	if format == "csv" {
		add = csv
		w.Header().Set("Content-Type", "text/csv; charset=utf-8; header=present")
		_, _ = out.WriteString("\uFEFF" + strings.Join(columns, ",") + "\r\n") // Flush fails, too
	}
	var line []byte
	err = seen.store.List(ctx, found, func(letter *deadletter.Letter) error {
		line = add(line[:0], letter)
		_, err := out.Write(line)
		return err
	})
	if err == nil {
		err = out.Flush()
	}
	unread, partial := unreadOf(seen.store)
	if err != nil || partial {
		if r.Context().Err() == nil {
			l.Log.Warn().Err(err).Strs("unread", unread).Int("letters", len(found)).
				Msg("export of dead letters aborted")
		}
		panic(http.ErrAbortHandler) // nobody may take a part for all
	}
	return nil
}

// stallLimit aborts a download whose receiver accepts nothing for stallTimeout.
type stallLimit struct{ to http.ResponseWriter }

func (s stallLimit) Write(b []byte) (int, error) {
	allow(s.to, stallTimeout)
	return s.to.Write(b)
}

// parseForm returns the filter and the format of an export. It refuses unknown fields, as decode
// does.
func parseForm(w http.ResponseWriter, r *http.Request) (f Filter, format string, err error) {
	r.Body = http.MaxBytesReader(w, r.Body, respond.MaxBody)
	if err := r.ParseForm(); err != nil {
		return f, "", respond.BodyError(err)
	}
	fields := map[string]*string{"class": &f.Class, "code": &f.Code, "state": &f.State,
		"since": &f.Since, "until": &f.Until, "report": &f.Report, "peer": &f.Peer,
		"format": &format, "offset": new(string)} // an export has all pages
	for name, values := range url.Values(r.PostForm) {
		field, known := fields[name]
		if !known || len(values) != 1 {
			return f, "", respond.BadRequest("the field %.50q is unknown or repeated",
				name)
		}
		*field = values[0]
	}
	if format != "csv" && format != "ndjson" {
		return f, "", respond.BadRequest("format must be ndjson or csv, not %.50q", format)
	}
	return f, format, nil
}

// ndjson appends the line of `markread dead-letters ls --json`.
func ndjson(b []byte, l *deadletter.Letter) []byte { return append(l.AppendJSON(b, false), '\n') }

// columns are the names of the fields of `ls --json`.
var columns = []string{"id", "state", "class", "code", "message", "report", "peer", "read_time",
	"event_time", "failed_at", "topic", "partition", "offset", "group", "delivery_count",
	"collapsed", "replays", "lane", "key", "key_base64", "value", "value_base64"}

// csv appends a line as RFC 4180 describes. All cells are quoted. What doesn't exist is empty.
func csv(b []byte, l *deadletter.Letter) []byte {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	number := func(n *int64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	at := func(t *time.Time) string {
		if t == nil || timeOf(*t) == nil {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	key, keyBase64 := textOrBase64(l.Record.Key)
	value, valueBase64 := textOrBase64(l.Record.Value)
	for i, cell := range []string{l.ID.String(), l.State.String(), l.Class, l.Code, l.Message,
		text(l.Report), text(l.Peer), number(l.ReadTime), at(l.EventTime), at(&l.FailedAt),
		l.Origin.Topic, number(l.Origin.Partition), number(l.Origin.Offset), l.Origin.Group,
		strconv.Itoa(l.Attempts), strconv.Itoa(l.Collapsed), strconv.Itoa(l.Replays), l.Lane,
		key, keyBase64, value, valueBase64} {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
			b = append(b, '\'') // a spreadsheet would execute it
		}
		b = append(b, strings.ReplaceAll(strings.ToValidUTF8(cell, "\uFFFD"), `"`, `""`)...)
		b = append(b, '"')
	}
	return append(b, "\r\n"...)
}

func textOrBase64(b []byte) (text, encoded string) {
	if utf8.Valid(b) {
		return string(b), ""
	}
	return "", base64.StdEncoding.EncodeToString(b)
}
