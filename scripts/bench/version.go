package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
)

// direct calls a plugin without a runtime.
func direct(ctx context.Context, path string, conf []byte, env ...string) error {
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = append(env, "CNI_PATH="+filepath.Dir(path))
	cmd.Stdin = bytes.NewReader(conf)
	if out, err := cmd.Output(); err != nil {
		return fmt.Errorf("%s %v: %w: %s", path, env, err, out)
	}
	return nil
}

// version measures the verb VERSION, which is the start of a process and little else.
func (b *bench) version(ctx context.Context, name string) error {
	const conf = `{"cniVersion":"1.0.0"}`
	for round := range 3 * b.rounds {
		turns := slices.Clone(b.contenders)
		if round%2 == 1 {
			slices.Reverse(turns)
		}
		for _, c := range turns {
			if c.name == refNftables || c.name == refIptables || c.name == cniboxFused {
				continue // the same program
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			s, err := timed(func() error { return direct(ctx, filepath.Join(c.bin, "bridge"), []byte(conf), "CNI_COMMAND=VERSION") })
			if err != nil {
				return err
			}
			b.report.add(key{name, 0, 1, "VERSION", c.name}, s)
		}
	}
	return nil
}
