package main

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
)

// table is the rows as aligned text. A group's first line names it.
func table(rows []row) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "case\texisting\tat once\toperation\tcontender\tmedian\tp90\tCPU\ttime / cnibox\tCPU / cnibox\tcnibox / time")
	var last key
	for _, r := range rows {
		head := "\t\t\t"
		if r.ours() != last {
			head = fmt.Sprintf("%s\t%d\t%d\t%s", r.Case, r.Existing, r.AtOnce, r.Operation)
			last = r.ours()
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", head, r.Contender, digits(r.Median), digits(r.P90), digits(r.CPU),
			digits(r.ToCnibox), digits(r.CPUToCnibox), digits(ratio(1, r.ToCnibox)))
	}
	_ = w.Flush()
	return text.String()
}

// digits is a number to three digits; nothing where there is none.
func digits(n float64) string {
	switch {
	case n == 0:
		return "-"
	case n >= 100:
		return strconv.FormatFloat(n, 'f', 0, 64)
	case n >= 10:
		return strconv.FormatFloat(n, 'f', 1, 64)
	case n >= 1:
		return strconv.FormatFloat(n, 'f', 2, 64)
	default:
		return strconv.FormatFloat(n, 'f', 4, 64)
	}
}
