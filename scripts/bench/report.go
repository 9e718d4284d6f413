package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// key names a series of samples.
type key struct {
	Case      string `json:"case"`
	Existing  int    `json:"existing"` // pods, reservations or mappings
	AtOnce    int    `json:"atOnce"`
	Operation string `json:"operation"`
	Contender string `json:"contender"`
}

// row is what becomes of a series. Times are in milliseconds.
type row struct {
	key
	Samples int     `json:"samples"`
	Median  float64 `json:"median"`
	P90     float64 `json:"p90"`
	CPU     float64 `json:"cpu"` // median, of one operation
	// ToCnibox is the median divided by cnibox's; 0 where cnibox was not measured.
	ToCnibox    float64 `json:"toCnibox,omitempty"`
	CPUToCnibox float64 `json:"cpuToCnibox,omitempty"`
}

// report gathers samples and notes.
type report struct {
	samples map[key][]sample
	order   []key
	Notes   []string
	say     *progress
}

func newReport(say *progress) *report { return &report{samples: map[key][]sample{}, say: say} }

func (r *report) add(k key, s sample) {
	if r.samples[k] == nil {
		r.order = append(r.order, k)
	}
	r.samples[k] = append(r.samples[k], s)
}

func (r *report) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.say.done("%s", text)
	r.Notes = append(r.Notes, text)
}

// rows are sorted by case, number of pods, number at once and operation, each in the order of their first sample, and then by contender.
func (r *report) rows() []row {
	var rows []row
	medians := map[key]row{}
	for _, k := range r.order {
		var wall, cpu []time.Duration
		for _, s := range r.samples[k] {
			wall, cpu = append(wall, s.wall), append(cpu, s.cpu)
		}
		one := row{
			key: k, Samples: len(wall),
			Median: milliseconds(quantile(wall, 0.5)), P90: milliseconds(quantile(wall, 0.9)), CPU: milliseconds(quantile(cpu, 0.5)),
		}
		medians[k] = one
		rows = append(rows, one)
	}
	for i := range rows {
		ours, ok := medians[rows[i].ours()]
		if ok {
			rows[i].ToCnibox, rows[i].CPUToCnibox = ratio(rows[i].Median, ours.Median), ratio(rows[i].CPU, ours.CPU)
		}
	}
	return grouped(rows)
}

// ours is the key of cnibox's row of the same group.
func (k key) ours() key {
	k.Contender = cnibox
	return k
}

// grouped brings rows of the same group together, the groups of a case in the order of the verbs, which is that of the alphabet.
func grouped(rows []row) []row {
	first := map[key]int{}
	for i, one := range rows {
		if k := one.scene(); first[k] == 0 {
			first[k] = i + 1
		}
	}
	names := []string{cnibox, cniboxFused, reference, refNftables, refIptables, cniboxDirect, floor, floorDirect, nothing}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(
			first[a.scene()]-first[b.scene()],
			strings.Compare(a.Operation, b.Operation),
			slices.Index(names, a.Contender)-slices.Index(names, b.Contender),
		)
	})
	return rows
}

// scene is what a row has in common with those of other operations and contenders.
func (k key) scene() key {
	k.Operation, k.Contender = "", ""
	return k
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// quantile is the value below which a share of all lies, between two of them if need be.
func quantile(all []time.Duration, share float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	at := share * float64(len(sorted)-1)
	low := int(at)
	if low == len(sorted)-1 {
		return sorted[low]
	}
	return sorted[low] + time.Duration((at-float64(low))*float64(sorted[low+1]-sorted[low]))
}

// machine describes what was measured on.
func machine() map[string]string {
	about := map[string]string{"cpus": fmt.Sprint(runtime.NumCPU()), "go": runtime.Version(), "arch": runtime.GOARCH}
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		about["kernel"] = unix.ByteSliceToString(name.Release[:])
	}
	return about
}

// write prints the table and puts table, figures and picture into a folder.
func (r *report) write(dir string) error {
	rows := r.rows()
	if len(rows) == 0 {
		return errors.New("nothing was measured")
	}
	about := machine()
	text := fmt.Sprintf("kernel %s, %s CPUs, %s; times in milliseconds\n\n%s", about["kernel"], about["cpus"], about["go"], table(rows))
	if targets := verdicts(rows); targets != "" {
		text += "\n" + targets
	}
	if len(r.Notes) > 0 {
		text += "\n" + strings.Join(r.Notes, "\n") + "\n"
	}
	fmt.Print(text)
	figures, err := json.MarshalIndent(map[string]any{"machine": about, "rows": rows, "notes": r.Notes}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "table.txt"), []byte(text), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.json"), append(figures, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, "bench.svg"), []byte(picture(rows)), 0o644),
	)
}
