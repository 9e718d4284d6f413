// Package machine has what virtual machines are made of: kernels of Debian, and an archive for the first file system.
package machine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Kernel is a kernel with its modules, unpacked.
type Kernel struct {
	Path    string // of the image
	modules string // folder with kernel/ and modules.dep
}

// FetchKernel downloads a kernel of Debian into the cache, unless the newest is there, and unpacks it. The meta package depends on the package with the
// kernel itself; options are apt's, where this machine's are not meant.
func FetchKernel(ctx context.Context, cache, meta string, options ...string) (*Kernel, error) {
	deps, err := Output(ctx, "apt-cache", append(options[:len(options):len(options)], "depends", meta)...)
	if err != nil { // the lists of packages are not there
		if _, err = Output(ctx, "apt-get", append(options[:len(options):len(options)], "-qq", "update")...); err == nil {
			deps, err = Output(ctx, "apt-cache", append(options[:len(options):len(options)], "depends", meta)...)
		}
	}
	if err != nil {
		return nil, err
	}
	_, name, ok := strings.Cut(deps, "Depends: ")
	if !ok {
		return nil, fmt.Errorf("%s depends on nothing: %s", meta, deps)
	}
	name, _, _ = strings.Cut(strings.Fields(name)[0], ":") // of the architecture, if that is another
	version := strings.TrimPrefix(name, "linux-image-")
	dir := filepath.Join(cache, name)
	k := &Kernel{Path: filepath.Join(dir, "boot", "vmlinuz-"+version), modules: filepath.Join(dir, "lib", "modules", version)}
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return k, nil
	}
	fmt.Fprintln(os.Stderr, "downloading", name)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return nil, err
	}
	for _, command := range []string{
		"apt-get " + strings.Join(options, " ") + " -qq -o APT::Sandbox::User=root download " + name,
		"dpkg -x " + name + "_*.deb .",
		"rm " + name + "_*.deb",
		"depmod -b . " + version,
		"touch complete",
	} {
		if _, err := Output(ctx, "sh", "-c", "cd '"+dir+"' && PATH=$PATH:/usr/sbin:/sbin && "+command); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Load returns the wanted modules, uncompressed and without their signatures, in an order in which they can be loaded. Those that are built in,
// and those that this kernel does not have, are left out: a test that needs one says so.
func (k *Kernel) Load(ctx context.Context, wanted []string) (names []string, text map[string][]byte, err error) {
	dep, err := os.ReadFile(filepath.Join(k.modules, "modules.dep"))
	if err != nil {
		return nil, nil, err
	}
	paths, needs := map[string]string{}, map[string][]string{}
	for line := range strings.Lines(string(dep)) {
		path, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		paths[moduleName(path)] = path
		for _, d := range strings.Fields(deps) {
			needs[moduleName(path)] = append(needs[moduleName(path)], moduleName(d))
		}
	}
	text = map[string][]byte{}
	var add func(name string) error
	add = func(name string) error {
		path, known := paths[name]
		if _, done := text[name]; done || !known {
			return nil
		}
		text[name] = nil
		for _, d := range needs[name] {
			if err := add(d); err != nil {
				return err
			}
		}
		program := []string{"cat"}
		if strings.HasSuffix(path, ".xz") { // of later kernels
			program = []string{"xz", "-dc"}
		}
		raw, err := Output(ctx, program[0], append(program[1:], filepath.Join(k.modules, path))...)
		if err != nil {
			return err
		}
		text[name] = unsigned([]byte(raw))
		names = append(names, name)
		return nil
	}
	for _, name := range wanted {
		if err := add(strings.ReplaceAll(name, "-", "_")); err != nil {
			return nil, nil, err
		}
	}
	return names, text, nil
}

func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// unsigned is a module without the signature behind it (linux/module_signature.h), which to check takes three times as long as all else.
func unsigned(module []byte) []byte {
	const magic, header = "~Module signature appended~\n", 12
	body, ok := bytes.CutSuffix(module, []byte(magic))
	if !ok || len(body) < header {
		return module
	}
	size := int(binary.BigEndian.Uint32(body[len(body)-4:]))
	return body[:max(len(body)-header-size, 0)]
}

// Output runs a program; what it printed is in the error if it fails.
func Output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out), nil
}
