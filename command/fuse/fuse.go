// Package fuse is the command that makes one plugin of a list of plugins.
package fuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/roles/fused"
)

// Command is `cnibox fuse`.
func Command() *cli.Command {
	return &cli.Command{
		Name:      "fuse",
		Usage:     "write a network configuration list in the form that runs its plugins in one process",
		ArgsUsage: "LIST",
		Description: ui.Describe("LIST is a .conflist file. What is written is a list too, with the one plugin cnibox, which holds those of LIST.\n"+
			"Pods that were attached by the one can be checked and deleted by the other.",
			"cnibox fuse /etc/cni/net.d/10-net.conflist", "cnibox fuse --output net.conflist net.conflist"),
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`, all at once; it may be LIST itself",
				Action: func(_ *cli.Context, path string) error {
					if path == "" {
						return ui.Usagef("--output is empty")
					}
					return nil
				},
			},
		},
		Before: func(c *cli.Context) error {
			if c.Args().Len() != 1 {
				return ui.Usagef("fuse takes one file: %s", strings.Join(c.Args().Slice(), " "))
			}
			return nil
		},
		Action: func(c *cli.Context) error {
			list, out, err := fuseFile(c.Args().First())
			if err != nil {
				return err
			}
			if to := c.String("output"); to != "" {
				return replaceFile(to, out, list.Mode().Perm())
			}
			_, err = c.App.Writer.Write(out)
			return err
		},
	}
}

// fuseFile is the fused form of the list in a file, and what the file is.
func fuseFile(path string) (os.FileInfo, []byte, error) {
	list, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	out, err := fused.Fuse(list)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return info, out, nil
}

// replaceFile gives a file new content in one step. The temporary file has a name that runtimes, which watch the folder, pass over.
func replaceFile(path string, content []byte, mode os.FileMode) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), ".cnibox-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	_, err = temp.Write(content)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
