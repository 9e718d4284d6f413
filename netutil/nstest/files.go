package nstest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files tells of each file below the folders, on a line each: path, time and content, so that two texts differ if anybody has written meanwhile.
func Files(dirs ...string) string {
	var b strings.Builder
	for _, dir := range dirs {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, _ := d.Info()
				text, _ := os.ReadFile(path)
				fmt.Fprintf(&b, "%s %v %.200q\n", path, info.ModTime(), text)
			}
			return nil
		})
	}
	return b.String()
}
