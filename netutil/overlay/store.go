package overlay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cnibox/cnibox/netutil/eintr"
	"github.com/cnibox/cnibox/netutil/errcode"
	"github.com/cnibox/cnibox/netutil/plainfile"
	"github.com/cnibox/cnibox/netutil/record"
)

// Where a node keeps what it knows of its overlays. What must outlive the machine's run is on disk: with it, a node that boots comes back with
// nothing else in reach.
const (
	DefaultState = "/var/lib/cni/overlay"
	DefaultRun   = "/run/cnibox/overlay"
)

// Store is what is kept of one network: its settings and peers as they were last in force, a stamp that says that the kernel was made so, and who uses
// the tunnel. The network's name must be one that a file can have.
type Store struct {
	state record.Folder // settings and peers
	run   string        // stamp and users
}

// OpenStore is the store of a network, in two folders for all networks.
func OpenStore(state, run, network string) *Store {
	return &Store{record.Folder(filepath.Join(state, network)), filepath.Join(run, network)}
}

// Networks are those of which there is something in the folder.
func Networks(state string) ([]string, error) {
	entries, err := os.ReadDir(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, storeError(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func storeError(err error) error {
	if err == nil {
		return nil
	}
	return errcode.Errorf(errcode.Storage, "what is known of the overlay: %w", err)
}

const (
	settingsFile = "settings"
	peersFile    = "peers" // a line each
	stampFile    = "stamp"
	usersFolder  = "users"
)

// settingsText is Config on disk, without the peers.
type settingsText struct {
	Network  string         `json:"network"`
	VNI      uint32         `json:"vni"`
	Port     uint16         `json:"port"`
	Device   string         `json:"device"`
	Underlay netip.Addr     `json:"underlay"`
	MTU      int            `json:"mtu"`
	Direct   bool           `json:"direct"`
	Subnets  []netip.Prefix `json:"subnets"`
	Bridge   string         `json:"bridge"`
	Group    netip.Addr     `json:"group"`
	AskAll   bool           `json:"askAll"`
	NoHost   bool           `json:"noHost"`
	MAC      string         `json:"mac"`
	KeptMTU  int            `json:"keptMTU"`
	Gateways []netip.Prefix `json:"gateways"`
	File     string         `json:"peersFile"`
}

// Save keeps settings and peers.
func (s *Store) Save(c *Config) error {
	var lines bytes.Buffer
	for i := range c.Peers {
		line, err := json.Marshal(textOf(&c.Peers[i]))
		if err != nil {
			return storeError(err)
		}
		lines.Write(append(line, '\n'))
	}
	return errors.Join(s.state.Write(peersFile, lines.Bytes()), s.saveSettings(c))
}

func (s *Store) saveSettings(c *Config) error {
	settings, err := json.Marshal(settingsText{
		c.Network, c.VNI, c.Port, c.Device, c.Underlay, c.MTU, c.Direct, c.Subnets,
		c.Bridge, c.Group, c.AskAll, c.NoHost, c.MAC.String(), c.KeptMTU, c.Gateways, c.PeersFile,
	})
	if err != nil {
		return storeError(err)
	}
	return s.state.Write(settingsFile, settings)
}

// AddGateways keeps addresses that the bridge has got besides.
func (s *Store) AddGateways(gateways []netip.Prefix) error {
	c, err := s.Settings()
	if c == nil || err != nil {
		return err
	}
	known := len(c.Gateways)
	for _, g := range gateways {
		if !slices.Contains(c.Gateways, g) {
			c.Gateways = append(c.Gateways, g)
		}
	}
	if len(c.Gateways) == known {
		return nil
	}
	return s.saveSettings(c)
}

func textOf(p *Peer) peerText {
	t := peerText{Name: p.Name}
	for _, a := range p.Underlay {
		t.Underlay = append(t.Underlay, a.String())
	}
	for _, s := range p.Subnets {
		t.Subnets = append(t.Subnets, s.String())
	}
	if p.MAC != nil {
		t.MAC = p.MAC.String()
	}
	return t
}

// Load reads what was saved; nil if there is nothing.
func (s *Store) Load() (*Config, error) {
	c, err := s.Settings()
	if c == nil || err != nil {
		return nil, err
	}
	text, err := s.state.Read(peersFile)
	if err != nil {
		return nil, err
	}
	if c.Peers, err = parseLines(text); err != nil {
		return nil, err
	}
	return c, s.Recall(c, "")
}

// Recall gives a bridged network's settings what no configuration has: the bridge's MAC address, and while there are pods besides the one named, what
// these rely on. Of settings that cannot be read nothing is recalled; the next Save mends them.
func (s *Store) Recall(c *Config, except string) (err error) {
	if !c.bridged() {
		return nil
	}
	c.Ports, c.KeptMTU, c.Gateways = nil, 0, nil
	users, err := s.Users()
	for _, u := range users {
		if u != except {
			c.Ports = append(c.Ports, u)
		}
	}
	last, _ := s.Settings()
	if err != nil || last == nil || !last.bridged() {
		return err
	}
	c.MAC = last.MAC
	if len(c.Ports) > 0 {
		c.KeptMTU, c.Gateways = last.KeptMTU, last.Gateways
	}
	return nil
}

// Refresh is Load with the peers of the file, if they came from one. If that is no good, what it had last is in force, and the error says so besides.
func (s *Store) Refresh() (c *Config, err error) {
	c, err = s.Load()
	if c == nil || err != nil || c.PeersFile == "" {
		return c, err
	}
	if err := c.ReadPeers(); err != nil {
		return c, errcode.Errorf(errcode.InvalidConfig, "%w; the last list that was good stays in force", err)
	}
	return c, nil
}

// Settings is Load without the peers.
func (s *Store) Settings() (*Config, error) {
	text, err := s.state.Read(settingsFile)
	if text == nil || err != nil {
		return nil, err
	}
	var t settingsText
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, storeError(fmt.Errorf("%s: %w", filepath.Join(string(s.state), settingsFile), err))
	}
	mac, _ := net.ParseMAC(t.MAC)
	return &Config{
		Network: t.Network, VNI: t.VNI, Port: t.Port, Device: t.Device, Underlay: t.Underlay, MTU: t.MTU, Direct: t.Direct, Subnets: t.Subnets, PeersFile: t.File,
		Bridged: Bridged{Bridge: t.Bridge, Group: t.Group, AskAll: t.AskAll, NoHost: t.NoHost, MAC: mac, KeptMTU: t.KeptMTU, Gateways: t.Gateways},
	}, nil
}

func parseLines(text []byte) (peers []Peer, err error) {
	for line := range bytes.Lines(text) {
		var t peerText
		err := json.Unmarshal(line, &t)
		if err != nil {
			return nil, storeError(err)
		}
		p, err := t.parse(peersFile)
		if err != nil {
			return nil, err
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// Sample are some of the peers, at most so many, others each time if there are more. It costs the same for any number.
func (s *Store) Sample(most int) ([]Peer, error) {
	const piece = 16 << 10 // bytes, in which there are more lines than anybody asks for
	file, err := os.OpenFile(filepath.Join(string(s.state), peersFile), os.O_RDONLY|plainfile.NoLink, 0)
	if err != nil {
		return nil, storeError(err)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return nil, storeError(err)
	}
	from, text := int64(0), make([]byte, piece)
	if info.Size() > piece {
		from = rand.N(info.Size())
	}
	n, err := file.ReadAt(text, from)
	if from > 0 { // in the middle of a line, and on from the beginning where the file ends
		_, text, _ = bytes.Cut(text[:n], []byte("\n"))
		begin := make([]byte, piece)
		n, err = file.ReadAt(begin, 0)
		text = append(text, begin[:n]...)
		n = len(text)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, storeError(err)
	}
	lines := bytes.SplitAfter(text[:bytes.LastIndexByte(text[:n], '\n')+1], []byte("\n"))
	return parseLines(bytes.Join(lines[:min(len(lines), most)], nil))
}

// Stamp is what Stamped was last told since the machine started; empty if it was not.
func (s *Store) Stamp() string {
	text, _ := record.Folder(s.run).Read(stampFile)
	return string(text)
}

// Stamped says what the kernel has been made to hold.
func (s *Store) Stamped(stamp string) error {
	f, err := os.OpenFile(filepath.Join(s.run, stampFile), os.O_CREATE|os.O_WRONLY|os.O_TRUNC|plainfile.NoLink, 0o600)
	if err == nil {
		_, err = f.WriteString(stamp)
		err = errors.Join(err, f.Close())
	}
	return storeError(err)
}

// Lock keeps others away who use overlays: the lock is on the folder of all networks, which never goes.
func (s *Store) Lock() (unlock func(), err error) {
	all := filepath.Dir(s.run)
	if err := os.MkdirAll(all, 0o700); err != nil {
		return nil, storeError(err)
	}
	dir, err := os.Open(all)
	if err != nil {
		return nil, storeError(err)
	}
	if err = eintr.Retry(func() error { return unix.Flock(int(dir.Fd()), unix.LOCK_EX) }); err == nil {
		err = os.MkdirAll(filepath.Join(s.run, usersFolder), 0o700)
	}
	if err != nil {
		return nil, storeError(errors.Join(err, dir.Close()))
	}
	return func() { _ = dir.Close() }, nil
}

// Use notes that somebody needs the tunnel. Where there is a bridge, the name is that of his link.
func (s *Store) Use(user string) error {
	f, err := os.OpenFile(filepath.Join(s.run, usersFolder, user), os.O_CREATE|os.O_WRONLY|plainfile.NoLink, 0o600)
	if err == nil {
		err = f.Close()
	}
	return storeError(err)
}

// Leave notes that somebody needs it no longer, and tells whether nobody does.
func (s *Store) Leave(user string) (last bool, err error) {
	if err := os.Remove(filepath.Join(s.run, usersFolder, user)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, storeError(err)
	}
	return s.unused()
}

// Users are those who need the tunnel.
func (s *Store) Users() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.run, usersFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, storeError(err)
	}
	var users []string
	for _, e := range entries {
		users = append(users, e.Name())
	}
	return users, nil
}

func (s *Store) unused() (bool, error) {
	dir, err := os.Open(filepath.Join(s.run, usersFolder))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, storeError(err)
	}
	defer func() { _ = dir.Close() }()
	_, err = dir.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, storeError(err)
}

// Keep has only those users left for which valid is true, and tells whether there are none.
func (s *Store) Keep(valid func(user string) bool) (none bool, err error) {
	users, err := s.Users()
	if err != nil {
		return false, err
	}
	none = true
	for _, user := range users {
		if valid(user) {
			none = false
			continue
		}
		if err := os.Remove(filepath.Join(s.run, usersFolder, user)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, storeError(err)
		}
	}
	return none, nil
}

// Forget removes all that is kept of the network. The lock must be held.
func (s *Store) Forget() error {
	return storeError(errors.Join(os.RemoveAll(string(s.state)), os.RemoveAll(s.run)))
}
