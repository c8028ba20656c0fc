//go:build exam && unix

package kit

import (
	"testing"
	"time"
)

// Sandbox is a `markread sandbox` process, used over HTTP.
type Sandbox struct {
	*Proc
	URL string
}

// StartSandbox starts `markread sandbox`.
func StartSandbox(t *testing.T, extra ...string) *Sandbox {
	t.Helper()
	args := append([]string{"sandbox", "--addr", "127.0.0.1:0", "--app-id", AppID}, extra...)
	p := Start(t, "sandbox", "product", []string{"MARKREAD_IM_KEY=" + Key}, args...)
	return &Sandbox{p, "http://" + p.Line(t, SandboxLine, 10*time.Second)[1]}
}

// ReadTimes returns the read times that the sandbox has stored.
func (s *Sandbox) ReadTimes(t *testing.T) map[Conversation]int64 {
	t.Helper()
	return Largest(getStream[Event](t, s.URL+"/sandbox/read-times"))
}

// SandboxStats is the sandbox's own count of the calls.
type SandboxStats struct {
	Calls        int            `json:"calls"`
	Applied      int            `json:"applied"`
	MaxPerSecond int            `json:"max_per_second"`
	Codes        map[string]int `json:"codes"`
	Encodings    map[string]int `json:"encodings"`
}

// Stats returns the sandbox's count of the calls.
func (s *Sandbox) Stats(t *testing.T) SandboxStats {
	t.Helper()
	return GetJSON[SandboxStats](t, s.URL+"/sandbox/stats")
}
