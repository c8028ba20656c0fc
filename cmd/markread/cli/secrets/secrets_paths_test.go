package secrets

import (
	"net"
	"net/http"
	"strings"
	"time"

	"markread/cmd/markread/cli/clitest"
	"markread/imclient"
	"markread/imclient/sandbox"
)

// faultResponses are the responses of a hostile server, or of a gateway before it; url is the whole
// URL of the request. The name of a response is also the account whose calls get it.
func faultResponses() map[string]func(w http.ResponseWriter, url string) {
	all := map[string]func(http.ResponseWriter, string){}
	errorCode := func(n int) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, text string) { clitest.WriteErrorCode(w, n, text) }
	}
	page := func(status int, before, after string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, text string) { writePage(w, status, before+text+after) }
	}
	raw := func(before, after string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, text string) { writeRaw(w, before+text+after) }
	}
	for name, form := range forms {
		add := func(place string, answer func(w http.ResponseWriter, text string)) {
			all[place+"-"+name] = func(w http.ResponseWriter, url string) { answer(w, form(url)) }
		}
		add("page", page(http.StatusBadGateway, "<html>can't reach ", "</html>"))
		add("refused", page(http.StatusForbidden, "", ""))
		add("rejected", errorCode(90001))
		add("failed", errorCode(91000))
		add("garbage", page(http.StatusOK, "", ""))
		add("cut", raw("HTTP/1.1 502 Bad\r\nContent-Length: 99999\r\n\r\n", ""))
		add("reason", raw("HTTP/1.1 502 ", "\r\nContent-Length: 0\r\n\r\n"))
		add("header", raw("HTTP/1.1 200 OK\r\n", "\r\n\r\n"))
		add("no-http", raw("", "\r\n\r\n"))
		add("redirect", raw("HTTP/1.1 302 Found\r\nLocation: ", "\r\nContent-Length: 0\r\n\r\n"))
	}
	all["unpacked"] = func(w http.ResponseWriter, url string) {
		clitest.WriteErrorCode(w, 90001, "TLS.sig is "+macOf(signatureIn(url)))
	}
	return all
}

// signatureIn extracts the signature from a URL.
func signatureIn(url string) string {
	sig, _, _ := strings.Cut(strings.TrimPrefix(url, "usersig="), " ")
	return sig
}

func writePage(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text))
}

// writeRaw responds with bytes that need not be HTTP, and closes the connection.
func writeRaw(w http.ResponseWriter, text string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(text))
	_ = conn.(*net.TCPConn).CloseWrite()
	// closing immediately could discard what was written
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = conn.Read(make([]byte, 1))
}

// sandboxRules returns all faults of the sandbox, each for an account with its name.
func sandboxRules() sandbox.Faults {
	var f sandbox.Faults
	for _, kind := range sandbox.Kinds() {
		rule := sandbox.Rule{Kind: kind, Report: "sandbox-" + string(kind)}
		switch kind {
		case sandbox.KindCode:
			rule.Code = 90048
		case sandbox.KindStatus:
			rule.Status = 503
		case sandbox.KindRedirect:
			rule.To = "http://other.test/"
		case sandbox.KindDrip:
			rule.Interval = time.Millisecond
		case sandbox.KindHuge, sandbox.KindGzipBomb:
			rule.Bytes = 1 << 20
		}
		f.Rules = append(f.Rules, rule)
		if kind == sandbox.KindEchoURL {
			rule.Report, rule.Code = rule.Report+"-code", 90001
			f.Rules = append(f.Rules, rule)
		}
	}
	return f
}

// accounts returns all accounts whose calls fail, one for each conversation.
func accounts() []string {
	var all []string
	for name := range faultResponses() {
		all = append(all, name)
	}
	for _, rule := range sandboxRules().Rules {
		all = append(all, rule.Report)
	}
	return all
}

// refusingTopic is a dead-letter topic that accepts no records.
const refusingTopic = "refusing"

// holdingFault is a fault that holds a worker until the worker stops.
type holdingFault struct {
	reason string // the hold's reason
	answer func(w http.ResponseWriter, s *harness, url string)
	args   []string
	env    []string
}

// holdingFaults are the states in which a worker is inspected. The name is the first part of the
// path that the worker calls, by which the server identifies it.
func holdingFaults() map[string]holdingFault {
	errorCode := func(n int) func(http.ResponseWriter, *harness, string) {
		return func(w http.ResponseWriter, _ *harness, url string) {
			clitest.WriteErrorCode(w, n, url)
		}
	}
	return map[string]holdingFault{
		"outage": {reason: "outage", answer: func(w http.ResponseWriter, _ *harness, url string) {
			writePage(w, http.StatusBadGateway, url+" "+forms["base64"](url))
		}},
		"cut-off": {reason: "outage", answer: func(w http.ResponseWriter, _ *harness, url string) {
			writeRaw(w, "HTTP/1.1 "+url+"\r\n\r\n")
		}},
		"throttled": {reason: "throttled",
			answer: func(w http.ResponseWriter, _ *harness, url string) {
				w.Header().Set("Retry-After", "30")
				writePage(w, http.StatusTooManyRequests, url)
			}},
		"rejections": {reason: "rejections", answer: errorCode(90001)},
		"dead-letter": {reason: "dead-letter", answer: errorCode(90001),
			args: []string{"--dead-letter-topic", refusingTopic}},
		"credentials": {reason: "credentials", answer: errorCode(70009)},
		"rotated": {
			// its key file is wrong until the test corrects it
			reason: "credentials", env: []string{"MARKREAD_IM_KEY="},
			answer: func(w http.ResponseWriter, _ *harness, url string) {
				if _, err := imclient.Verify(signatureIn(url), imclient.NewSecret(canaryKey),
					time.Now()); err != nil {
					clitest.WriteErrorCode(w, 70009, url)
					return
				}
				clitest.WriteErrorCode(w, 0, url)
			},
		},
		"wrong-key": {
			reason: "credentials", env: []string{"MARKREAD_IM_KEY=" + wrongKey},
			answer: func(w http.ResponseWriter, _ *harness, url string) {
				clitest.WriteErrorCode(w, 70009, "not of this app: "+forms["json"](url))
			},
		},
		"key-gone": {
			// the harness creates and removes its key file
			reason: "credentials", env: []string{"MARKREAD_IM_KEY="},
			answer: func(w http.ResponseWriter, s *harness, url string) {
				s.spoilKeyFile()
				clitest.WriteErrorCode(w, 70001, url)
			},
		},
	}
}
