package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
)

// daemon is a program that runs until it is killed.
type daemon struct {
	cmd   *exec.Cmd
	ended <-chan struct{} // closed when it has
}

// launch starts a daemon by a function that runs another where it is to be. Its output goes to a log of the name.
func (h *host) launch(name string, on func(func() error) error, cmd *exec.Cmd) (*daemon, error) {
	log, err := os.OpenFile(fmt.Sprintf("%s/%s.log", home, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	if !slices.Contains(h.logs, log.Name()) {
		h.logs = append(h.logs, log.Name())
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := on(cmd.Start); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it never ends but by being killed
		close(ended)
	}()
	return &daemon{cmd: cmd, ended: ended}, nil
}

// kill gives the daemon no time to do anything, and waits for its end.
func (d *daemon) kill() error {
	if err := d.cmd.Process.Kill(); err != nil {
		return err
	}
	<-d.ended
	return nil
}
