package ui

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// Watch draws again and again, until somebody interrupts it or ctx ends, which is no error, or draw fails; at most so many times, or without end if
// times is 0. A terminal is drawn over; elsewhere a line of dashes stands between two pictures.
func Watch(ctx context.Context, out io.Writer, interval time.Duration, times int, draw func(ctx context.Context, out io.Writer) error) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	for n := 1; ; n++ {
		var picture bytes.Buffer // a whole picture at once does not flicker
		switch {
		case IsTerminal(out):
			picture.WriteString("\x1b[H\x1b[2J")
		case n > 1:
			picture.WriteString("----\n")
		}
		err := draw(ctx, &picture)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := out.Write(picture.Bytes()); err != nil || n == times {
			return err
		}
		// From picture to picture: a ticker would draw two at once behind one that took long.
		timer := time.NewTimer(interval)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Size is how many characters a terminal has in a line, and lines; 120 and 0 where the output is none.
func Size(out io.Writer) (columns, lines int) {
	const otherwise = 120
	f, ok := out.(*os.File)
	if !ok {
		return otherwise, 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return otherwise, 0
	}
	return int(size.Col), int(size.Row)
}
