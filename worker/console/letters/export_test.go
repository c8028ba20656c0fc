package letters

import (
	"bytes"
	"context"
	stdcsv "encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"markread/consumer/broker/brokertest"
	"markread/consumer/deadletter"
)

// exported posts the form of an export.
func (w *world) exported(ctx context.Context, fields ...string) *httptest.ResponseRecorder {
	w.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r := httptest.NewRequestWithContext(ctx, "POST", "/api/dead-letters/export",
		strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got := httptest.NewRecorder()
	w.handler.ServeHTTP(got, r)
	return got
}

// writeHostile writes a dead letter with each hostile text wherever a record can have it.
func (w *world) writeHostile() {
	w.Helper()
	for _, text := range hostile {
		w.write(letter{report: text, class: text, code: text, message: text, value: text})
	}
	w.write(letter{report: "\xff\xfe", class: "invalid", value: "\xff=1"})
}

// NDJSON has exactly the lines of `dead-letters ls --json`.
func TestExportOfLines(t *testing.T) {
	inWorld(t, func(w *world) {
		w.writeHostile()
		w.write(letter{report: "parked", class: "rejected", code: "90048", replays: 3})
		index := deadletter.NewIndex(3, deadletter.Filter{})
		store := deadletter.Store{Topic: w.kafka, Name: brokertest.Topics.DeadLetter}
		if err := store.Find(w.Context(), index); err != nil {
			t.Fatal(err)
		}
		for state, states := range map[string][]deadletter.State{"": {deadletter.Open},
			"all": deadletter.AllStates()} {
			var want []byte
			if err := store.List(w.Context(), index.Find(states...),
				func(l *deadletter.Letter) error {
					want = append(l.AppendJSON(want, false), '\n')
					return nil
				}); err != nil {
				t.Fatal(err)
			}
			got := w.exported(w.Context(), "format", "ndjson", "state", state, "class", "", "offset", "0")
			if got.Code != 200 || !bytes.Equal(got.Body.Bytes(), want) {
				t.Errorf("%d: %s\nwant %s", got.Code, got.Body, want)
			}
			if got := got.Header().Get("Content-Disposition"); got !=
				`attachment; filename="dead-letters-20260101T000023Z.ndjson"` {
				t.Error(got)
			}
		}
	})
}

// A CSV file has what the lines have, and no cell that a spreadsheet executes.
func TestExportOfCSV(t *testing.T) {
	inWorld(t, func(w *world) {
		w.writeHostile()
		lines := w.exported(w.Context(), "format", "ndjson").Body.Bytes()
		got := w.exported(w.Context(), "format", "csv")
		text, hasBOM := strings.CutPrefix(got.Body.String(), "\uFEFF")
		if !hasBOM || got.Header().Get("Content-Type") !=
			"text/csv; charset=utf-8; header=present" ||
			!strings.HasSuffix(got.Header().Get("Content-Disposition"), `Z.csv"`) {
			t.Errorf("%v", got.Header())
		}
		// Go's reader drops CR before LF within cells.
		rows, err := stdcsv.NewReader(strings.NewReader(
			strings.ReplaceAll(text, "\r\n", "\n"))).ReadAll()
		if err != nil || len(rows) != len(hostile)+2 || !slices.Equal(rows[0], columns) {
			t.Fatalf("%v: %q", err, rows)
		}
		for i, line := range bytes.Split(bytes.TrimSpace(lines), []byte("\n")) {
			var want map[string]any
			if err := json.Unmarshal(line, &want); err != nil {
				t.Fatal(err)
			}
			for column, cell := range rows[i+1] {
				if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
					t.Errorf("a formula: %q", cell)
				}
				name := columns[column]
				text, is := want[name].(string)
				if is && strings.TrimPrefix(cell, "'") != strings.ReplaceAll(
					strings.TrimPrefix(text, "'"), "\r\n", "\n") {
					t.Errorf("%s is %q, want %q", name, cell, text)
				}
			}
		}
		last := rows[len(rows)-1]
		if want := []string{"", "//58cA==", "", "/z0x"}; !slices.Equal(last[len(last)-4:], want) {
			t.Errorf("%q", last)
		}
	})
}

// The exact bytes of a line, in which each kind of cell occurs.
func TestLineOfCSV(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(letter{report: "a", class: "rejected", code: "-1", message: "\rsay \"no\",\r\nnow"})
		_, got, _ := strings.Cut(w.exported(w.Context(), "format", "csv").Body.String(), "\r\n")
		if got != `"0:0","open","rejected","'-1","'`+"\r"+`say ""no"",`+"\r\n"+`now",`+
			`"a","p","1600000000",`+
			`"2023-11-14T21:56:40.999Z","2026-01-01T00:00:01Z","mark-read","1","7","markread",`+
			`"8","3","0","backfill","a|p","","{""Report_Account"":""a"",""Peer_Account"":""p"",`+
			`""MsgReadTime"":1600000000}",""`+"\r\n" {
			t.Errorf("%q", got)
		}
	})
}

// Two exports run at a time.
func TestExportsAreBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(1)...)
		w.listed(Filter{})
		w.slow = time.Minute
		var exports sync.WaitGroup
		for range maxReads {
			exports.Go(func() {
				if got := w.exported(w.Context(), "format", "csv"); got.Code != 200 {
					t.Errorf("%d %s", got.Code, got.Body)
				}
			})
		}
		synctest.Wait()
		if got := w.exported(w.Context(), "format", "csv"); got.Code != 429 ||
			got.Header().Get("Retry-After") != "10" {
			t.Errorf("%d %v", got.Code, got.Header())
		}
		exports.Wait()
		if got := w.exported(w.Context(), "format", "csv"); got.Code != 200 {
			t.Errorf("%d %s", got.Code, got.Body)
		}
	})
}

// serve serves the handler as an admin server does: with limits for short requests.
func (w *world) serve() (client *http.Client, halt func()) {
	l, err := w.Network.Listen("tcp", "127.0.0.1:8790")
	if err != nil {
		w.Fatal(err)
	}
	server := &http.Server{Handler: w.handler, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	transport := &http.Transport{DialContext: w.Network.DialContext}
	return &http.Client{Transport: transport}, func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-served
	}
}

// over makes a request over HTTP and returns the body and the error of reading it.
func (w *world) over(client *http.Client, path, media, body string) (string, error) {
	request, err := http.NewRequestWithContext(w.Context(), "POST", "http://127.0.0.1:8790"+path,
		strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	request.Header.Set("Content-Type", media)
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	b, err := io.ReadAll(response.Body)
	return string(b), err
}

func (w *world) exportOver(client *http.Client) (string, error) {
	return w.over(client, "/api/dead-letters/export", "application/x-www-form-urlencoded",
		"format=ndjson")
}

// Long requests aren't ended by the server's limits for short ones.
func TestLongRequests(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		client, halt := w.serve()
		defer halt()
		w.slow = time.Minute
		got, err := w.exportOver(client)
		if err != nil || strings.Count(got, "\n") != 3 {
			t.Errorf("%v: %s", err, got)
		}
		got, err = w.over(client, "/api/replay/plan", "application/json", "{}")
		if err != nil || !strings.Contains(got, `"letters":3`) {
			t.Errorf("%v: %s", err, got)
		}
		w.slow = time.Hour
		got, err = w.exportOver(client)
		if err != nil || !strings.HasPrefix(got, "503: reading the dead letters takes too long") {
			t.Errorf("%v: %s", err, got)
		}
	})
}

// A receiver that reads nothing holds up an export for half a minute only.
func TestStalledReceiver(t *testing.T) {
	inWorld(t, func(w *world) {
		for range 20 {
			w.write(letter{report: "a", class: "rejected", value: strings.Repeat("x", 500_000)})
		}
		client, halt := w.serve()
		defer halt()
		request, err := http.NewRequestWithContext(w.Context(), "POST",
			"http://127.0.0.1:8790/api/dead-letters/export", strings.NewReader("format=csv"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for len(w.exports) > 0 {
			time.Sleep(time.Second)
		}
		if took := time.Since(begin); took < stallTimeout-time.Second || took > stallTimeout+
			time.Second {
			t.Errorf("after %s", took)
		}
		if _, err := io.Copy(io.Discard, response.Body); err == nil {
			t.Error("the export seems to be complete")
		}
		_ = response.Body.Close()
	})
}

// An export whose rest can't be read fails visibly.
func TestIncompleteExport(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		client, halt := w.serve()
		defer halt()
		w.listed(Filter{})
		w.broken = errors.New("checksum")
		if got, err := w.exportOver(client); err == nil {
			t.Errorf("no error, and %q", got)
		}
		if lines := w.logs.Lines("export of dead letters aborted"); len(lines) != 1 {
			t.Error(w.logs.String())
		}
	})
}

// A list and an export of a topic that can be read only in part say so.
func TestPartlyReadTopic(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(6)...)
		w.cut = true
		p := w.listed(Filter{})
		wantEqual(t, "reports", reports(p.Items), []string{"a5", "a4", "a2", "a1", "a0"})
		if len(p.Unread) != 1 || !strings.HasPrefix(p.Unread[0],
			`topic "mark-read-dead-letters", partition 0, offsets 1 to 1: checksum; `) {
			t.Errorf("%q", p.Unread)
		}
		got := w.exported(w.Context(), "format", "ndjson")
		if n := strings.Count(got.Body.String(), "\n"); n != 5 || got.Header().Get(
			"Content-Disposition") !=
			`attachment; filename="dead-letters-20260101T000006Z-incomplete.ndjson"` {
			t.Errorf("%d lines, %v", n, got.Header())
		}
		plan := w.planned(Filter{})
		if plan.Letters != 4 || plan.UnreadSkipped != 1 {
			t.Errorf("%+v", plan)
		}
	})
}

// An export ends when its receiver leaves.
func TestAbandonedExport(t *testing.T) {
	inWorld(t, func(w *world) {
		w.write(rejected(3)...)
		w.listed(Filter{})
		w.slow = time.Hour
		ctx, cancel := context.WithCancel(w.Context())
		ended := make(chan any, 1)
		go func() {
			defer func() { ended <- recover() }()
			w.exported(ctx, "format", "csv")
		}()
		synctest.Wait()
		cancel()
		begin := time.Now()
		if got := <-ended; got != http.ErrAbortHandler || time.Since(begin) > 0 {
			t.Errorf("%v after %s", got, time.Since(begin))
		}
		if len(w.logs.Lines("export of dead letters aborted")) != 0 {
			t.Error(w.logs.String())
		}
	})
}
