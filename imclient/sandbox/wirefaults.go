package sandbox

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/tls"
	"fmt"
	"html"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// serveWireFault responds to a call with a fault of the wire or a gateway. a is the API's response,
// for the faults that show some of it. recordResponse gets the HTTP status and the ErrorCode (-1:
// none) just before the client could see them.
func (s *Server) serveWireFault(
	w http.ResponseWriter, r *http.Request, rule *Rule, a response,
	recordResponse func(status, code int),
) {
	s.setDate(w)
	h := w.Header()
	broken := func(text []byte) {
		recordResponse(http.StatusOK, -1)
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text)
	}
	switch rule.Kind {
	case KindReset:
		reset(w)

	case KindHang:
		<-r.Context().Done()

	case KindStatus:
		recordResponse(rule.Status, -1)
		if rule.RetryAfter != "" {
			h.Set("Retry-After", rule.RetryAfter)
		}
		writePage(w, rule.Status, "")

	case KindRedirect:
		status := cmp.Or(rule.Status, http.StatusFound)
		recordResponse(status, -1)
		h.Set("Location", rule.To)
		writePage(w, status, "")

	case KindEchoURL:
		url := "http://" + r.Host + r.URL.RequestURI()
		if rule.Code != 0 {
			echo := failure(rule.Code, "can't handle "+url)
			echo.status = rule.Status
			recordResponse(echo.httpStatus(), rule.Code)
			s.send(w, echo)
			return
		}
		status := cmp.Or(rule.Status, http.StatusBadGateway)
		recordResponse(status, -1)
		writePage(w, status, "The server can't be reached at "+url)

	case KindCut:
		recordResponse(http.StatusOK, -1)
		text := a.json()
		h.Set("Content-Type", "application/json")
		h.Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text[:len(text)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // closes the connection; a return would also log an error

	case KindHalf:
		text := a.json()
		broken(text[:len(text)/2])

	case KindDrip:
		interval := cmp.Or(rule.Interval, 100*time.Millisecond)
		drip(w, r, a.json(), interval, func() { recordResponse(http.StatusOK, a.ErrorCode) })

	case KindGarbage:
		broken([]byte("\x00\xff\xfe{]\x1b[31m\x80 garbage\r\n\x07"))

	case KindWrongTypes:
		broken([]byte(`{"ActionStatus":["OK"],"ErrorInfo":{},"ErrorCode":"0"}`))

	case KindHuge:
		recordResponse(http.StatusOK, -1)
		h.Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"ActionStatus":"FAIL","ErrorInfo":"`))
		writeRepeated(w, bytes.Repeat([]byte("x"), 64<<10), cmp.Or(rule.Bytes, 1<<30))
		_, _ = w.Write([]byte(`","ErrorCode":91000}`))

	case KindGzipBomb:
		recordResponse(http.StatusOK, -1)
		h.Set("Content-Type", "application/json")
		h.Set("Content-Encoding", "gzip")
		// A gzip file may have any number of members: the same mebibyte of spaces is repeated.
		member := gzippedMebibyte()
		writeRepeated(w, member, cmp.Or(rule.Bytes, 1<<30)/(1<<20)*int64(len(member)))
	}
}

// reset ends a connection so that the client sees a reset: without lingering, closing sends RST. A
// connection that is not TCP, or not available (HTTP/2, a recorder), is only closed.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn() // its own Close would send a close notification first
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = raw.Close()
}

// writePage writes a page as a gateway does.
func writePage(w http.ResponseWriter, status int, text string) {
	title := strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status)))
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<html>\r\n<head><title>%s</title></head>\r\n<body>\r\n"+
		"<center><h1>%s</h1></center>\r\n%s<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n",
		title, title, html.EscapeString(text))
}

// drip writes text one byte at a time, until the client disconnects; last is called before the last
// byte.
func drip(
	w http.ResponseWriter, r *http.Request, text []byte, interval time.Duration, last func(),
) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	flush := http.NewResponseController(w)
	for i := range text {
		if i == len(text)-1 {
			last()
		}
		if _, err := w.Write(text[i : i+1]); err != nil {
			return
		}
		_ = flush.Flush()
		if i < len(text)-1 && !sleep(r, interval) {
			return
		}
	}
}

// writeRepeated writes chunk repeatedly, n bytes in all, until the client disconnects.
func writeRepeated(w http.ResponseWriter, chunk []byte, n int64) {
	for n > 0 {
		part := chunk[:min(n, int64(len(chunk)))]
		if _, err := w.Write(part); err != nil {
			return
		}
		n -= int64(len(part))
	}
}

func gzippedMebibyte() []byte {
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestCompression) // the level is legal
	_, _ = z.Write(bytes.Repeat([]byte(" "), 1<<20))           // a buffer never fails
	_ = z.Close()
	return packed.Bytes()
}
