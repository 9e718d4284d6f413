package vxlan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/overlay"
	"github.com/cnibox/cnibox/netutil/plainfile"
)

// stamp stands for all that the tunnel follows from, so that an ADD can tell whether anything is another than when the tunnel was last made. It is
// a digest of the settings and the list of peers, and behind a space the file that the list was read from.
type stamp string

// unknown is in place of the file where there is none, or where it cannot be told from a later state of it.
const unknown = "-"

// same tells whether both are of the same settings and list.
func (s stamp) same(other stamp) bool {
	one, _, _ := strings.Cut(string(s), " ")
	two, _, _ := strings.Cut(string(other), " ")
	return one != "" && one == two
}

// stamp takes the stamp of the configuration. A list in a file is read for it, but not kept: it may be long. It is not read if the last stamp was
// taken of the same settings and of the very file.
func (c *conf) stamp(last stamp) (stamp, error) {
	settings, err := json.Marshal(&c.overlay) // which has no peers yet
	if err != nil {
		return "", err
	}
	h := fnv.New64a()
	_, _ = h.Write(settings)
	list, file := io.Reader(bytes.NewReader(c.Peers)), unknown
	if c.PeersFile != "" {
		f, err := plainfile.OpenTrusted(c.PeersFile, overlay.MostPeers)
		if err != nil {
			return "", invalid("peersFile: %w", err)
		}
		defer func() { _ = f.Close() }()
		if id := identify(f); id != "" {
			file = fmt.Sprintf("%016x:%s", h.Sum64(), id)
			if strings.HasSuffix(string(last), " "+file) {
				return last, nil
			}
		}
		list = f
	}
	size, err := io.Copy(h, list)
	if err != nil {
		return "", invalid("peersFile: %w", err)
	}
	return stamp(fmt.Sprintf("%016x:%d %s", h.Sum64(), size, file)), nil
}

// identify tells a state of a file from all others: whoever replaces it makes another inode, and whoever writes to it has the kernel set its ctime,
// which no program can set otherwise. The kernel's clock for that stands still for up to 10 ms, and that of some file systems for 2 s: so of a file
// that has changed just now nothing is known (empty), since it could change again without another ctime. What is written by way of mmap the kernel
// may see later; the list must be replaced as a whole anyway.
func identify(f *os.File) string {
	const settled = 5 * time.Second
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil || time.Since(time.Unix(s.Ctim.Unix())) < settled {
		return ""
	}
	return fmt.Sprintf("%x:%x:%x:%x:%x", s.Dev, s.Ino, s.Size, s.Mtim.Nano(), s.Ctim.Nano())
}
