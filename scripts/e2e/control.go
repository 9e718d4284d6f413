package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cnibox/cnibox/netutil/nstest"
)

// Whom the API server knows, by tokens that are their names. Its own roles say what they may do.
const (
	admin             = "admin"
	controllerManager = "system:kube-controller-manager"
	scheduler         = "system:kube-scheduler"
	proxy             = "system:kube-proxy"
	kubelet           = "system:node:" // and the node's name
)

const (
	apiAddr = "192.0.2.254" // of the outside
	apiURL  = "https://" + apiAddr + ":6443"
	pki     = home + "/pki"
)

// kube is one of the commands of Kubernetes.
func (h *host) kube(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(h.program("kubernetes"))
	cmd.Args = append([]string{name}, args...)
	return cmd
}

func onOutside(fn func() error) error { return nstest.Enter(outside, fn) }

// startControl starts what there is once in a cluster. All of it is outside of the nodes.
func (c *cluster) startControl() (string, error) {
	if err := errors.Join(os.MkdirAll(pki, 0o700), writeServiceKey(), c.writeTokens()); err != nil {
		return "", err
	}
	for _, cmd := range []*exec.Cmd{
		c.kube("etcd", "--data-dir", home+"/etcd", "--unsafe-no-fsync"),
		c.kube("kube-apiserver",
			"--etcd-servers", "http://127.0.0.1:2379", "--advertise-address", apiAddr, "--cert-dir", pki,
			"--token-auth-file", pki+"/tokens", "--authorization-mode", "Node,RBAC", "--kubelet-preferred-address-types", "InternalIP",
			"--service-cluster-ip-range", "10.96.0.0/16", "--service-account-issuer", apiURL,
			"--service-account-key-file", pki+"/service.key", "--service-account-signing-key-file", pki+"/service.key",
		),
	} {
		if _, err := c.launch(cmd.Args[0], onOutside, cmd); err != nil {
			return "", err
		}
	}
	if err := c.awaitServer(); err != nil {
		return "", err
	}
	for _, cmd := range []*exec.Cmd{
		c.kube("kube-controller-manager", "--kubeconfig", access(controllerManager), "--leader-elect=false", "--cert-dir", pki+"/controllers",
			"--use-service-account-credentials", "--root-ca-file", pki+"/apiserver.crt", "--service-account-private-key-file", pki+"/service.key"),
		c.kube("kube-scheduler", "--kubeconfig", access(scheduler), "--leader-elect=false"),
	} {
		if _, err := c.launch(cmd.Args[0], onOutside, cmd); err != nil {
			return "", err
		}
	}
	return c.versions()
}

// versions are those of the API server and of its store.
func (c *cluster) versions() (string, error) {
	var version struct{ ServerVersion struct{ GitVersion string } }
	if err := c.get(&version, "version"); err != nil {
		return "", err
	}
	etcd, err := c.kube("etcd", "--version").Output()
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(etcd), "\n")
	return "Kubernetes " + version.ServerVersion.GitVersion + ", " + line, nil
}

// writeServiceKey makes the key that service accounts' tokens are signed with.
func writeServiceKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(pki+"/service.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), 0o600)
}

// users are all, with the group that each is in.
func (c *cluster) users() map[string]string {
	users := map[string]string{admin: "system:masters", controllerManager: "", scheduler: "", proxy: ""}
	for _, n := range c.nodes {
		users[kubelet+n.name] = "system:nodes"
	}
	return users
}

func (c *cluster) writeTokens() error {
	var lines strings.Builder
	for user, group := range c.users() {
		fmt.Fprintf(&lines, "%[1]s,%[1]s,%[1]s,%[2]s\n", user, group)
	}
	return os.WriteFile(pki+"/tokens", []byte(lines.String()), 0o600)
}

// access is the path of a user's kubeconfig.
func access(user string) string { return filepath.Join(pki, user+".json") }

// awaitServer waits for the API server, which makes its certificate itself, and writes how users get at it.
func (c *cluster) awaitServer() error {
	return waitFor(patience, "the API server is ready", func() (bool, error) {
		if err := c.writeAccess(); err != nil {
			return false, err
		}
		_, err := c.kubectl(nil, "get", "--raw", "/readyz")
		return err == nil, err
	})
}

func (c *cluster) writeAccess() error {
	certificate, err := os.ReadFile(pki + "/apiserver.crt")
	if err != nil {
		return err
	}
	for user := range c.users() {
		raw, err := json.Marshal(object{
			"apiVersion": "v1", "kind": "Config", "current-context": "e2e",
			"contexts": []object{{"name": "e2e", "context": object{"cluster": "e2e", "user": "e2e"}}},
			"clusters": []object{{"name": "e2e", "cluster": object{"server": apiURL, "certificate-authority-data": certificate}}},
			"users":    []object{{"name": "e2e", "user": object{"token": user}}},
		})
		if err != nil {
			return err
		}
		if err := os.WriteFile(access(user), raw, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// patience is how long a cluster may take for what takes seconds on an idle machine.
const patience = 5 * time.Minute

// kubectl calls the program of that name, with an object on its stdin if there is one.
func (c *cluster) kubectl(input object, args ...string) (out string, err error) {
	cmd := c.kube("kubectl", append([]string{"--kubeconfig", access(admin), "--cache-dir", home + "/kubectl"}, args...)...)
	if input != nil {
		raw, err := json.Marshal(input)
		if err != nil {
			return "", err
		}
		cmd.Stdin = strings.NewReader(string(raw))
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err = onOutside(func() error {
		raw, err := cmd.Output()
		out = strings.TrimSpace(string(raw))
		return err
	})
	if err != nil {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, err
}

// get has kubectl answer as JSON, and decodes that.
func (c *cluster) get(answer any, args ...string) error {
	out, err := c.kubectl(nil, append(args, "--output", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), answer)
}

// wait has kubectl wait for something, with its patience.
func (c *cluster) wait(args ...string) error {
	_, err := c.kubectl(nil, append(args, "--timeout", patience.String())...)
	return err
}
