package cli

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"markread/cmd/markread/cli/clitest"
	"markread/cmd/markread/cli/config"
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

// The consoles of compose.yaml and of Kubernetes start with their environment, find the workers,
// and listen where their ports lead.
func TestDeployConsole(t *testing.T) {
	_, admin, _ := net.SplitHostPort(defaults(t).Admin.AdminAddr)
	parse := func(where string, env []string, args ...string) *consoleCommand {
		t.Helper()
		for i, pair := range env {
			if name, _, _ := strings.Cut(pair, "="); strings.HasSuffix(name, "_FILE") {
				env[i] = name + "=" + clitest.File(t, "secret")
			}
		}
		env = slices.DeleteFunc(env,
			func(pair string) bool { return strings.HasPrefix(pair, "MARKREAD_TLS_CA=") })
		p := &process{env: config.NewEnvironment(env)}
		selected, err := p.parse(args)
		if err != nil {
			t.Fatalf("%s: %v", where, err)
		}
		c := selected.(*consoleCommand)
		if err := c.validate(p.env); err != nil || len(p.env.Unknown()) > 0 || len(c.Peers) == 0 {
			t.Errorf("%s: %v, unknown %v, peers %v", where, err, p.env.Unknown(), c.Peers)
		}
		for _, peer := range c.Peers {
			if _, port, _ := net.SplitHostPort(peer); port != admin {
				t.Errorf("%s: peer %s, but the workers listen on %s", where, peer, admin)
			}
		}
		return c
	}
	composed := decodeDeployed[composeFile](t, composing)
	service := composed.Services["console"]
	var env []string
	for name, value := range service.Environment {
		env = append(env, name+"="+value)
	}
	c := parse(composing, env, service.Command...)
	if _, port, _ := net.SplitHostPort(c.ConsoleAddr); !slices.Equal(service.Ports,
		[]string{"127.0.0.1:" + port + ":" + port}) {
		t.Errorf("%s: ports %v for %s", composing, service.Ports, c.ConsoleAddr)
	}
	for _, peer := range c.Peers {
		if name, _, _ := net.SplitHostPort(peer); composed.Services[name].Environment[config.
			AdminToken] != service.Environment[config.AdminToken] {
			t.Errorf("%s: %s has another token than the console, or is none", composing, peer)
		}
	}

	const folder = "kubernetes/console/"
	pod := decodeDeployed[podFile](t, folder+"deployment.yaml").Spec.Template.Spec.Containers[0]
	set, commented := settings(t, folder+"console.env")
	parse("with all that is commented out", slices.Concat(set, commented), "console")
	c = parse(folder, set, "console")
	_, port, _ := net.SplitHostPort(c.ConsoleAddr)
	if strconv.Itoa(pod.Ports[0].ContainerPort) != port ||
		pod.EnvFrom[0].ConfigMapRef.Name != "markread-console" {
		t.Errorf("%s: %+v for %s", folder, pod, c.ConsoleAddr)
	}
	for _, name := range []string{"service.yaml", "networkpolicy.yaml"} {
		if !strings.Contains(readDeployed(t, folder+name), "port: "+port) {
			t.Errorf("%s%s does not have the port %s", folder, name, port)
		}
	}
	workers := decodeDeployed[struct{ Metadata struct{ Name string } }](t, "kubernetes/service.yaml")
	if c.Peers[0] != workers.Metadata.Name+":"+admin {
		t.Errorf("%s: %v are not the workers' Service, %s", folder, c.Peers, workers.Metadata.Name)
	}
}
