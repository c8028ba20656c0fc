package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// readDeployed returns a file of deploy.
func readDeployed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(repository, "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// decodeDeployed decodes a YAML file of deploy. It goes through JSON, which matches field names in
// any case.
func decodeDeployed[T any](t *testing.T, name string) (v T) {
	t.Helper()
	var tree any
	err := yaml.Unmarshal([]byte(readDeployed(t, name)), &tree)
	if err == nil {
		var text []byte
		if text, err = json.Marshal(tree); err == nil {
			err = json.Unmarshal(text, &v)
		}
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return v
}

// settings returns the name and value of each line of an environment file: the active lines, and
// the commented-out ones.
func settings(t *testing.T, name string) (set, commented []string) {
	t.Helper()
	for i, line := range strings.Split(readDeployed(t, name), "\n") {
		switch {
		case line == "" || strings.HasPrefix(line, "# "):
		case !regexp.MustCompile(`^#?MARKREAD_[A-Z_]+=[^"' ]*$`).MatchString(line):
			// the readers of this file treat quotes and spaces differently
			t.Errorf("%s:%d: %q is neither a comment nor a plain setting", name, i+1, line)
		case line[0] == '#':
			commented = append(commented, line[1:])
		default:
			set = append(set, line)
		}
	}
	return set, commented
}

// unit returns the settings of the systemd unit, in the order of the file.
func unit(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for line := range strings.Lines(readDeployed(t, unitFile)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && name[0] != '#' {
			all[name] = append(all[name], value)
		}
	}
	return all
}
