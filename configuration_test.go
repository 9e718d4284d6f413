package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cnibox/cnibox/command/keys"
	"github.com/cnibox/cnibox/roles"
)

// The pages about keys are made of the structs that the roles read them into: go test . -run TestKeysPages -update.
func TestKeysPages(t *testing.T) {
	t.Parallel()
	for name, role := range roleTable() {
		if len(keys.OfRole(role).Keys) == 0 {
			continue
		}
		path := filepath.Join(roleFolder(t, name), "README.md")
		page := readPage(t, path)
		comparePage(t, path, page, withTable(t, path, page, keysTable(keys.OfRole(role), ipamOf(name))))
	}
	path := "docs/configuration.md"
	page := readPage(t, path)
	prose, _, ok := strings.Cut(page, madeBelow)
	if !ok {
		t.Fatalf("%s has no line %s", path, madeBelow)
	}
	comparePage(t, path, page, prose+madeBelow+configurationPage(t))
}

// madeBelow is the line of the page behind which all is made.
const madeBelow = "<!-- What follows is made of the structs that the plugins read: go test . -run TestKeysPages -update -->\n"

func readPage(t *testing.T, path string) string {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	return string(page)
}

func comparePage(t *testing.T, path, have, want string) {
	t.Helper()
	if have == want {
		return
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s is not what the structs say (go test . -run TestKeysPages -update):%s", path, lineDiff(have, want))
}

// withTable is a README with the table of keys replaced.
func withTable(t *testing.T, path, page, table string) string {
	t.Helper()
	head, section, ok := strings.Cut(page, "\n## Keys")
	at := regexp.MustCompile(`(?m)(^\|.*\n)+`).FindStringIndex(section)
	if !ok || at == nil {
		t.Fatalf("%s has no table of keys", path)
	}
	return head + "\n## Keys" + section[:at[0]] + table + section[at[1]:]
}

// ipamOf is the key in which all keys of an ipam plugin are.
func ipamOf(role string) string {
	if roleKinds()[role] == "ipam" {
		return "ipam."
	}
	return ""
}

// keysTable is a table of those keys that have a description. What the names of keys begin with and the table need not say is cut off.
func keysTable(k *keys.Key, cut string) string {
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	told := map[string]bool{}
	var add func(k *keys.Key, at string, doc bool)
	add = func(k *keys.Key, at string, above bool) {
		for _, sub := range k.Keys {
			name := at + sub.Name
			id := fmt.Sprint(sub.Name, sub.Doc, sub.Required)
			switch {
			case sub.Doc == "":
			case above && told[id]: // the description above tells that it is the same
				continue
			default:
				fmt.Fprintf(&b, "| `%s` |%s| %s |\n", strings.TrimPrefix(name, cut), strings.TrimRight(" "+defaultOf(sub), " ")+" ", code(sub.Doc))
			}
			told[id] = true
			inside := sub
			for ; inside.Kind == keys.List && inside.Elem != nil; inside = inside.Elem {
				name += "[]"
			}
			add(inside, name+".", above || sub.Doc != "")
		}
	}
	add(k, "", false)
	return b.String()
}

func defaultOf(k *keys.Key) string {
	switch {
	case k.Required:
		return "required"
	case k.Plugin != "", strings.Contains(k.Default, " "), k.Default == "":
		return strings.Repeat(k.Default, min(1, strings.Count(k.Default, " ")))
	case k.Kind == keys.String, k.Kind == keys.List:
		return "`" + k.Default + "`"
	}
	return k.Default
}

// code has the parts of a description between single quotation marks as code. Apostrophes stay.
func code(doc string) string {
	var b strings.Builder
	inside, last := false, ' '
	for _, r := range doc {
		letter := last >= 'a' && last <= 'z' || last >= 'A' && last <= 'Z' || last >= '0' && last <= '9'
		switch {
		case r == '\'' && (inside || !letter):
			inside = !inside
			b.WriteByte('`')
		case r == '|':
			b.WriteString(`\|`)
		default:
			b.WriteRune(r)
		}
		last = r
	}
	return b.String()
}

func configurationPage(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("\n## A list\n\n")
	b.WriteString(keysTable(keys.OfList(), ""))
	b.WriteString("\n## Every plugin\n\n" + keysTable(keys.OfPlugin(), ""))
	b.WriteString("\n`cniVersion` and `name` stand in a plugin's configuration only if it is not in a list.\n")
	for _, kind := range []string{"main", "meta", "ipam"} {
		for _, info := range roleInfos() {
			if info.Kind == kind {
				roleSection(t, &b, info)
			}
		}
	}
	return b.String()
}

func roleSection(t *testing.T, b *strings.Builder, info roleInfo) {
	t.Helper()
	fmt.Fprintf(b, "\n## %s\n\nKind %s: it %s. [More](../%s/README.md)\n", info.Name, info.Kind, info.Summary, roleFolder(t, info.Name))
	k := keys.OfRole(roleTable()[info.Name])
	if capabilities := capabilitiesOf(k); capabilities != "" {
		fmt.Fprintf(b, "\nCapabilities: %s.\n", capabilities)
	}
	switch {
	case len(k.Keys) == 0:
		b.WriteString("\nIt has no keys.\n")
	case info.Kind == "ipam":
		b.WriteString("\nAll keys are below `ipam`, unless they begin with something else.\n\n" + keysTable(k, "ipam."))
	default:
		b.WriteString("\n" + keysTable(k, ""))
	}
}

func capabilitiesOf(k *keys.Key) string {
	var names []string
	if runtime := k.Find("runtimeConfig"); runtime != nil {
		for _, sub := range runtime.Keys {
			names = append(names, "`"+sub.Name+"`")
		}
	}
	return strings.Join(names, ", ")
}

// Every role tells of its keys, and every key has a description, or is in something that has one.
func TestKeysAreDescribed(t *testing.T) {
	t.Parallel()
	table := roleTable()
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if _, ok := table[name].(roles.Described); !ok {
			t.Errorf("%s does not tell of its configuration", name)
		}
		var walk func(k *keys.Key, at string, described bool)
		walk = func(k *keys.Key, at string, described bool) {
			described = described || k.Doc != ""
			if k.Kind == keys.Any && k.Name != "" && k.Plugin == "" {
				t.Errorf("%s: %s: a key that the role itself reads needs the tag type", name, at)
			}
			if len(k.Keys) == 0 && k.Elem == nil && !described {
				t.Errorf("%s: %s has no description", name, at)
			}
			for _, sub := range k.Keys {
				walk(sub, at+"."+sub.Name, described)
			}
			if k.Elem != nil {
				walk(k.Elem, at+"[]", described)
			}
		}
		if k := keys.OfRole(table[name]); len(k.Keys) > 0 {
			walk(k, name, false)
		}
	}
}
