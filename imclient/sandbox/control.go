package sandbox

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"

	"markread/imclient"
)

// localOnly restricts a handler to programs of this machine, and to a method ("": the handler
// checks it). It checks the Host and forwarding headers because a web page can make a browser send
// requests here (DNS rebinding), and a proxy forwards requests of other machines.
func localOnly(method string, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !isLocal(r) {
			http.Error(w, "only programs on the sandbox's own machine may use this",
				http.StatusForbidden)
			return
		}
		if method != "" && r.Method != method {
			refuseMethod(w, method)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		handle(w, r)
	}
}

func refuseMethod(w http.ResponseWriter, allowed string) {
	w.Header().Set("Allow", allowed)
	http.Error(w, "the method must be "+allowed, http.StatusMethodNotAllowed)
}

func isLocal(r *http.Request) bool {
	for name := range r.Header {
		if name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") {
			return false
		}
	}
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	return err == nil && imclient.IsLoopback(peer) && imclient.IsLoopback(r.Host)
}

func (s *Server) getStats(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Stats()) }

func (s *Server) getArrivals(w http.ResponseWriter, _ *http.Request) { writeLines(w, s.Arrivals()) }

func (s *Server) getReadTime(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	c := conversation{query.Get("report"), query.Get("peer")}
	if c.report == "" || c.peer == "" {
		http.Error(w, "report and peer are required: /sandbox/read-time?report=A&peer=B",
			http.StatusBadRequest)
		return
	}
	writeJSON(w, s.store.pointer(c))
}

func (s *Server) getReadTimes(w http.ResponseWriter, _ *http.Request) {
	writeLines(w, s.store.pointers())
}

func (s *Server) handleFaults(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
	case http.MethodPut:
		if err := s.putFaults(http.MaxBytesReader(w, r.Body, maxFaultsBytes)); err != nil {
			http.Error(w, "faults refused: "+err.Error(), http.StatusBadRequest)
			return
		}
	default:
		refuseMethod(w, "GET, PUT")
		return
	}
	writeJSON(w, s.Faults())
}

func (s *Server) putFaults(from io.Reader) error {
	text, err := io.ReadAll(from)
	if err != nil {
		return err
	}
	var f Faults
	if !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) {
		return errors.New("the body must be a JSON object; {} removes all faults")
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return plainJSONError(err)
	}
	return s.SetFaults(f)
}

// writeJSON writes one value; a connection error is the client's to detect.
func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}

// writeLines writes a list as NDJSON. It needs no lock: the caller owns the list.
func writeLines[T any](w http.ResponseWriter, list []T) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	buffered := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(buffered)
	for i := range list {
		if encoder.Encode(&list[i]) != nil {
			return // the client has disconnected
		}
	}
	_ = buffered.Flush()
}
