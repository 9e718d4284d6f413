// Package ipam is the command that shows the addresses that a node has given out, and gives them back by hand.
package ipam

import (
	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/networks"
	"github.com/cnibox/cnibox/command/ui"
	"github.com/cnibox/cnibox/ipam/dhcp/daemon"
	"github.com/cnibox/cnibox/ipam/store"
)

// Command is the command. collect is what gives back what belongs to no living container: `cnibox gc` for addresses only.
func Command(collect *cli.Command) *cli.Command {
	return &cli.Command{
		Name:  "ipam",
		Usage: "the addresses that host-local and dhcp have given out on this node",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list reservations, and how full the pools are",
				Description: ui.Describe("Pools are those of the configurations in --conf-dir. It takes no lock and changes nothing.",
					"cnibox ipam list", "cnibox ipam list --network mynet --output json"),
				Flags:  append(placeFlags(), networkFlag("only this `NETWORK`"), ui.OutputFlag()),
				Action: func(c *cli.Context) error { return list(c.App.Writer, placeOf(c), c.String("output") == "json") },
			},
			{
				Name: "release", Usage: "give addresses back by hand", ArgsUsage: "[ADDRESS...]",
				Description: ui.Describe("For what a lost container has left and gc does not know of. Without --yes it only tells what it would do. The container\n"+
					"is not asked: whoever uses the address must be gone.",
					"cnibox ipam release --network mynet 10.1.0.7", "cnibox ipam release --network mynet --container 4b1f0c --yes"),
				Flags: append(placeFlags(),
					networkFlag("the `NETWORK` of the addresses; needed if there are several"),
					&cli.StringFlag{Name: "container", Usage: "all addresses of the container with this `ID`"},
					&cli.BoolFlag{Name: "yes", Usage: "do it"},
				),
				Action: release,
			},
			collect,
		},
	}
}

func networkFlag(usage string) cli.Flag { return &cli.StringFlag{Name: "network", Usage: usage} }

func placeFlags() []cli.Flag {
	return []cli.Flag{
		networks.DirFlag(),
		&cli.StringFlag{Name: "data-dir", Usage: "the `FOLDER` of host-local (ipam.dataDir), beside those that configurations name", Value: store.DefaultDir},
		&cli.StringFlag{Name: "lease-dir", Usage: "the `FOLDER` of the dhcp daemon", Value: daemon.DefaultState},
	}
}

func placeOf(c *cli.Context) Place {
	return Place{Conf: c.String("conf-dir"), Data: c.String("data-dir"), Leases: c.String("lease-dir"), Network: c.String("network")}
}
