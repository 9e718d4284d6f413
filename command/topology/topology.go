// Package topology is the command that draws the node: its links, bridges and tunnels, and the pods behind them.
package topology

import (
	"context"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/node"
	"github.com/cnibox/cnibox/command/ui"
)

// Command is `cnibox topology`.
func Command() *cli.Command {
	return &cli.Command{
		Name:  "topology",
		Usage: "draw the node: its links, bridges and tunnels, and the pods behind them",
		Description: ui.Describe("As a tree, as a graph for graphviz (dot), or as a picture (svg). What is not right is marked.",
			"cnibox topology",
			"cnibox topology --format svg > node.svg",
			"cnibox topology --format dot | dot -Tpdf > node.pdf"),
		Flags: []cli.Flag{ui.ChoiceFlag("format", "f", "text", "dot", "svg")},
		Action: func(c *cli.Context) error {
			return draw(c.Context, c.App.Writer, c.String("format"))
		},
	}
}

func draw(ctx context.Context, out io.Writer, format string) error {
	n, err := node.Read(ctx, node.Options{})
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		name = "this node"
	}
	s := newScene(name, n)
	text := ""
	switch format {
	case "dot":
		text = s.dot()
	case "svg":
		text = s.svg()
	default:
		text = s.text(unicodeLocale(), ui.ColoursFor(out))
	}
	_, err = io.WriteString(out, text)
	return err
}

// unicodeLocale tells whether who reads the text sees more than ASCII (locale(7)).
func unicodeLocale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			_, charset, _ := strings.Cut(v, ".")
			charset, _, _ = strings.Cut(charset, "@")
			return strings.EqualFold(charset, "UTF-8") || strings.EqualFold(charset, "UTF8")
		}
	}
	return false
}
