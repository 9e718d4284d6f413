// Command guest is what the containers of make e2e run: "serve PORT" answers each connection with who is seen to ask, "pause" does nothing,
// until they are told to end; "ask ADDRESS:PORT" says whom a server sees, "meet ADDRESS:PORT..." whom each sees and where it is.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/cnibox/cnibox/scripts/greet"
)

func main() {
	if err := run(append(os.Args[1:], "", "")); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func meet(servers []string) error {
	for _, to := range servers {
		seen, at, err := greet.Meet(to)
		if err != nil {
			return err
		}
		fmt.Println(seen, at)
	}
	return nil
}

func run(args []string) error {
	switch args[0] {
	case "ask":
		seen, err := greet.Ask(args[1])
		fmt.Println(seen)
		return err
	case "meet":
		return meet(os.Args[2:])
	case "serve":
		port, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		if err := greet.Serve(port); err != nil {
			return err
		}
	case "pause":
	default:
		return fmt.Errorf("unknown command %q", args[0])
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
	return nil
}
