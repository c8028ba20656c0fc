//go:build exam && unix

package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// examSandbox is a `markread sandbox` process, seen over HTTP.
type examSandbox struct {
	*examProc
	url string
}

func examStartSandbox(t *testing.T, extra ...string) *examSandbox {
	t.Helper()
	args := append([]string{"sandbox", "--addr", "127.0.0.1:0", "--app-id", examAppID}, extra...)
	p := examStart(t, "sandbox", "product", []string{"MARKREAD_IM_KEY=" + examKey}, args...)
	return &examSandbox{p, "http://" + p.line(t, examSandboxLine, 10*time.Second)[1]}
}

func (s *examSandbox) pointers(t *testing.T) map[examConversation]int64 {
	t.Helper()
	out := map[examConversation]int64{}
	dec := json.NewDecoder(strings.NewReader(examGet(t, s.url+"/sandbox/read-times")))
	for dec.More() {
		var row struct {
			Report   string `json:"report"`
			Peer     string `json:"peer"`
			ReadTime int64  `json:"read_time"`
		}
		if err := dec.Decode(&row); err != nil {
			t.Fatal(err)
		}
		out[examConversation{row.Report, row.Peer}] = row.ReadTime
	}
	return out
}

type examSandboxStats struct {
	Calls        int            `json:"calls"`
	Applied      int            `json:"applied"`
	MaxPerSecond int            `json:"max_per_second"`
	Codes        map[string]int `json:"codes"`
	Encodings    map[string]int `json:"encodings"`
}

func (s *examSandbox) stats(t *testing.T) examSandboxStats {
	t.Helper()
	var out examSandboxStats
	if err := json.Unmarshal([]byte(examGet(t, s.url+"/sandbox/stats")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}
