package manual

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/cnibox/cnibox/command/ui"
)

// programPage is the page of the program as a whole.
func programPage(app *cli.App) string {
	var p page
	p.title(ui.Program)
	p.section("NAME")
	p.text(ui.Program + " - " + app.Usage)
	p.section("SYNOPSIS")
	p.text(ui.Program + " COMMAND [OPTIONS] [ARGUMENTS]\n\n" + ui.Program + " PLUGIN")
	p.section("DESCRIPTION")
	p.text(app.Description)
	p.section("COMMANDS")
	for _, c := range app.Commands {
		p.term(ui.Program+"-"+c.Name+"(8)", c.Usage)
	}
	p.exitStatus()
	p.section("ENVIRONMENT")
	p.term("CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, CNI_PATH", "what a runtime calls a plugin with")
	p.term("CNIBOX_TRACE", "a file to which a plugin writes how long each of its steps takes")
	p.term("NO_COLOR", "if it is set, no command writes in colours")
	p.section("FILES")
	p.term("/opt/cni/bin", "where runtimes look for plugins")
	p.term("/etc/cni/net.d", "network configurations")
	p.term("/var/lib/cni/networks", "the addresses that host-local has given out")
	p.term("/var/lib/cni/cache/results", "what runtimes remember of attachments")
	p.term("/run/cnibox", "what is to be in the packet filter, in case somebody flushes it")
	return p.String()
}

// commandPage is the page of a command and of those below it.
func commandPage(c *cli.Command) string {
	var p page
	name := ui.Program + "-" + c.Name
	p.title(name)
	p.section("NAME")
	p.text(name + " - " + c.Usage)
	p.section("SYNOPSIS")
	for _, way := range ways(c, ui.Program) {
		p.text(way)
	}
	text, examples := ui.SplitDescription(c.Description)
	if text != "" {
		p.section("DESCRIPTION")
		p.text(text)
	}
	p.options(c)
	for _, s := range c.Subcommands {
		p.section(strings.ToUpper(ui.Program + " " + c.Name + " " + s.Name))
		below, more := ui.SplitDescription(s.Description)
		p.text(s.Usage + "\n\n" + below)
		p.options(s)
		examples = append(examples, more...)
	}
	if len(examples) > 0 {
		p.section("EXAMPLES")
		p.literal(examples)
	}
	p.exitStatus()
	p.section("SEE ALSO")
	p.text(ui.Program + "(8)")
	return p.String()
}

// ways are the ways to call a command, one for each of those below it.
func ways(c *cli.Command, before string) (all []string) {
	name := before + " " + c.Name
	for _, s := range c.Subcommands {
		all = append(all, ways(s, name)...)
	}
	if all == nil {
		all = []string{strings.TrimRight(name+" [OPTIONS] "+c.ArgsUsage, " ")}
	}
	return all
}

// page is text in the language of man(7).
type page struct {
	strings.Builder
	fresh bool // nothing stands in the section yet
}

func (p *page) line(format string, args ...any) { _, _ = fmt.Fprintf(p, format+"\n", args...) }

func (p *page) title(name string) {
	p.line(`.TH "%s" 8 "" "%s" "%s"`, escape(strings.ToUpper(name)), ui.Program, "System administration")
}

func (p *page) section(name string) {
	p.line(`.SH "%s"`, escape(name))
	p.fresh = true
}

// text writes paragraphs, which empty lines part; lines that are indented stay as they are.
func (p *page) text(text string) {
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if !p.fresh {
			p.line(".PP")
		}
		p.fresh = false
		if strings.HasPrefix(paragraph, " ") {
			p.literal(strings.Split(paragraph, "\n"))
			continue
		}
		p.line("%s", escape(paragraph))
	}
}

// literal writes lines as they are, indented.
func (p *page) literal(lines []string) {
	p.line(".RS 4\n.nf")
	for _, l := range lines {
		p.line("%s", escape(strings.TrimSpace(l)))
	}
	p.line(".fi\n.RE")
}

// term writes what a word means.
func (p *page) term(word, meaning string) {
	p.line(".TP\n\\fB%s\\fR\n%s", escape(word), escape(meaning))
}

func (p *page) options(c *cli.Command) {
	if len(c.Flags) == 0 {
		return
	}
	p.section("OPTIONS")
	for _, f := range c.Flags {
		p.term(ui.FlagHelp(f))
	}
}

func (p *page) exitStatus() {
	p.section("EXIT STATUS")
	p.term("0", "it is done, and nothing was found that is not right")
	p.term("1", "it failed, or something is not right; what, is on standard error or in the output")
	p.term("2", "the command, a flag or an argument is not known; nothing was done")
}

// escape has roff print the text as it is: backslashes and dashes, and no line is taken for a request.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
