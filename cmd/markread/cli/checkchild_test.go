package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"testing"

	"markread/worker/preflight"
)

// runCheckInChild runs check in a process of its own, for environment variables that affect a whole
// process.
func runCheckInChild(t *testing.T, env []string, args ...string) (r preflight.Report) {
	t.Helper()
	line, _ := json.Marshal(append(args, "--json")) // can't fail
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCheckInAChild$")
	child.Env = append([]string{"MARKREAD_TEST_CHECK=" + string(line), "PATH=" + os.Getenv("PATH")},
		env...)
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.Output()
	if decoding := json.Unmarshal(out, &r); decoding != nil {
		t.Fatalf("%v %v: %s%s", err, decoding, out, &stderr)
	}
	return r
}

// TestCheckInAChild is the child process of runCheckInChild.
func TestCheckInAChild(t *testing.T) {
	line := os.Getenv("MARKREAD_TEST_CHECK")
	if line == "" {
		t.Skip("skipped: it is run by other tests")
	}
	var args []string
	if err := json.Unmarshal([]byte(line), &args); err != nil {
		t.Fatal(err)
	}
	os.Exit(Run(context.Background(), args, os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

func pemOf(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}
