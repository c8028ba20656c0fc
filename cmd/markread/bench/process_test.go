package bench

import (
	"os"
	"strings"
	"testing"
	"time"
)

// A child ends with its standard input, which the bench holds: also when the bench is killed.
func TestChildEndsWithItsParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.Context(), self, "broker", job{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	if _, err := p.line(t.Context(), `listening on (\S+)`); err != nil {
		t.Fatal(err)
	}
	_ = p.stdin.Close()
	select {
	case <-p.exited:
	case <-time.After(time.Minute):
		t.Error("it is still running")
	}
}

// A child that ends is reported with what it has printed, and nobody waits for it any longer.
func TestChildFails(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(t.Context(), self, "juggler", job{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	_, err = p.line(t.Context(), `listening on (\S+)`)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") ||
		!strings.Contains(err.Error(), "unknown role") {
		t.Errorf("the error is %v", err)
	}
}
