// Command dist makes what a release consists of: for each architecture an archive, a .deb, an .rpm and a list of what is in the executable
// (SPDX), for all of them an image, and checksums. Nothing of it depends on when, where or by whom it is made: times are those of
// SOURCE_DATE_EPOCH.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// release is what all files are of.
type release struct {
	version string
	time    time.Time // of the commit; that of all files
	out     string    // folder of what is made
	work    string    // folder that is thrown away
	nfpm    string    // path of the program
	arches  []arch
	roles   []string // names of the plugins
}

func main() {
	r := release{}
	flag.StringVar(&r.out, "out", "dist", "the folder to make; what is in it is thrown away")
	flag.StringVar(&r.version, "version", "", "as git describe tells it")
	flag.StringVar(&r.nfpm, "nfpm", "bin/tools/nfpm", "the program that makes packages")
	names := flag.String("arches", "", "architectures as Go names them, all if empty")
	flag.Parse()
	if err := r.prepare(*names, os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fail(err)
	}
	err := r.make()
	if err := errors.Join(err, os.RemoveAll(r.work)); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "dist:", err)
	os.Exit(1)
}

// prepare checks what the release is made of, and makes its folders.
func (r *release) prepare(arches, epoch string) (err error) {
	if r.version == "" {
		return errors.New("-version is empty")
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.time = time.Unix(seconds, 0).UTC()
	if r.arches, err = chosenArches(arches); err != nil {
		return err
	}
	for _, path := range []*string{&r.out, &r.nfpm} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	r.work, err = os.MkdirTemp("", "cnibox-dist-")
	return err
}

func (r *release) make() error {
	docs, err := r.documents()
	if err != nil {
		return err
	}
	if r.roles, err = r.askRoles(); err != nil {
		return err
	}
	img := image{release: r}
	for _, a := range r.arches {
		executable, err := r.build(a)
		if err != nil {
			return err
		}
		p := program{arch: a, path: executable}
		if p.modules, err = modulesOf(executable); err != nil {
			return err
		}
		for _, step := range []func(program, tree) error{r.archive, r.packages, r.bill, img.add} {
			if err := step(p, docs); err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
		}
		fmt.Printf("%-8s %s\n", a.name, strings.Join(r.made(a), ", "))
	}
	if err := img.write(); err != nil {
		return err
	}
	return r.sums()
}

// program is an executable that was built.
type program struct {
	arch    arch
	path    string
	modules []module
}

// made are the names of the files of an architecture.
func (r *release) made(a arch) (names []string) {
	for _, pattern := range []string{"*linux-" + a.name + ".*", "*_" + a.deb + ".deb", "*." + a.rpm + ".rpm"} {
		paths, _ := filepath.Glob(filepath.Join(r.out, pattern)) // the patterns are right
		for _, path := range paths {
			names = append(names, filepath.Base(path))
		}
	}
	return names
}
