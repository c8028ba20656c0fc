//go:build exam && unix

package cluster

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha512"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"markread/cmd/markread/exam/kit"
)

// variables returns the variables that `deploy/kafka/kafka env` prints: addresses, certificates,
// users.
func (c *cluster) variables(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^([A-Z_]+)=(.*)$`).
		FindAllStringSubmatch(c.script(t, "env"), -1) {
		out[line[1]] = line[2]
	}
	return out
}

// setPassword creates a SCRAM-SHA-512 user, or changes its password.
func (c *cluster) setPassword(t *testing.T, user, password string) {
	t.Helper()
	const iterations = 4096
	salt := make([]byte, 16)
	_, _ = rand.Read(salt)
	salted, err := pbkdf2.Key(sha512.New, password, salt, iterations, sha512.Size)
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	upsert := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	upsert.Name, upsert.Mechanism, upsert.Iterations, upsert.Salt, upsert.SaltedPassword = user, 2,
		iterations, salt,
		salted
	req.Upsertions = append(req.Upsertions, upsert)
	response, err := req.RequestWith(kit.Context(t), c.Client)
	if err == nil && len(response.Results) == 1 {
		err = kerr.ErrorForCode(response.Results[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("set a password: %v", err)
	}
}

// allow grants a user a permission on a topic or a group.
func (c *cluster) allow(t *testing.T, user string, kind kmsg.ACLResourceType, name string,
	operation kmsg.ACLOperation) {
	t.Helper()
	req := kmsg.NewPtrCreateACLsRequest()
	acl := kmsg.NewCreateACLsRequestCreation()
	acl.ResourceType, acl.ResourceName, acl.ResourcePatternType = kind, name,
		kmsg.ACLResourcePatternTypeLiteral
	acl.Principal, acl.Host, acl.Operation, acl.PermissionType = "User:"+user, "*", operation,
		kmsg.ACLPermissionTypeAllow
	req.Creations = append(req.Creations, acl)
	response, err := req.RequestWith(kit.Context(t), c.Client)
	if err == nil && len(response.Results) == 1 {
		err = kerr.ErrorForCode(response.Results[0].ErrorCode)
	}
	if err != nil {
		t.Fatalf("allow %v on %s: %v", operation, name, err)
	}
}

// permission is one permission of a worker: on which topic or group, and which operation.
type permission struct {
	of        func(n kit.Names) string
	operation kmsg.ACLOperation
}

// permissions are what a worker needs, and no more: see deploy/OPERATIONS.md.
var permissions = map[string]permission{
	"read live": {func(n kit.Names) string { return n.Live }, kmsg.ACLOperationRead},
	"read backfill": {func(n kit.Names) string { return n.Backfill },
		kmsg.ACLOperationRead},
	"write dead letters": {func(n kit.Names) string { return n.DeadLetters },
		kmsg.ACLOperationWrite},
	"settings dead letters": {func(n kit.Names) string { return n.DeadLetters },
		kmsg.ACLOperationDescribeConfigs},
	"read group": {func(n kit.Names) string { return n.Group }, kmsg.ACLOperationRead},
}

// grantWorker grants a user what a worker needs, without the omitted permissions.
func (c *cluster) grantWorker(t *testing.T, user string, omitted ...string) {
	t.Helper()
	for name, p := range permissions {
		if slices.Contains(omitted, name) {
			continue
		}
		kind := kmsg.ACLResourceTypeTopic
		if strings.HasSuffix(name, "group") {
			kind = kmsg.ACLResourceTypeGroup
		}
		c.allow(t, user, kind, p.of(c.Names), p.operation)
	}
}

// user is a user of one test, with its password.
type user struct{ name, password string }

// newUser creates a user without permissions.
func (c *cluster) newUser(t *testing.T, prefix string) user {
	t.Helper()
	u := user{prefix + strings.TrimPrefix(c.Group, "markread"), "exam-password"}
	c.setPassword(t, u.name, u.password)
	return u
}

func (u user) flags() []string {
	return []string{"--sasl", "scram-sha-512", "--sasl-user", u.name}
}

// writeFile replaces a file atomically, so that no reader gets half of it.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	next := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}
