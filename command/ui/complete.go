package ui

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// CompleteArg is the last argument of a call that asks what might come next. The shells' scripts make such calls (CompletionScript).
const CompleteArg = "--generate-completion"

// Complete prints what may stand in the place of the last argument, which may have been begun or be empty: a word on each line and, behind a
// tab, what it means. Nothing is printed where a file's name or something unknown belongs.
func Complete(app *cli.App, args []string) {
	if len(args) == 0 {
		return
	}
	begun, before := args[len(args)-1], args[:len(args)-1]
	command, _, rest := find(app.Commands, before)
	suggest := func(word, meaning string) {
		if strings.HasPrefix(word, begun) {
			_, _ = fmt.Fprintf(app.Writer, "%s\t%s\n", word, meaning)
		}
	}
	switch {
	case command == nil && len(rest) > 0:
	case command != nil && len(rest) > 0 && takesValue(command, rest[len(rest)-1]):
		if f, ok := flagOf(command, rest[len(rest)-1]).(*choice); ok {
			for _, word := range f.words {
				suggest(word, "")
			}
		}
	case strings.HasPrefix(begun, "-"):
		suggestFlags(app, command, suggest)
	default:
		suggestWords(app, command, suggest)
	}
}

func suggestFlags(app *cli.App, command *cli.Command, suggest func(word, meaning string)) {
	flags := app.Flags
	if command != nil {
		flags = command.Flags
	}
	for _, f := range append(flags[:len(flags):len(flags)], cli.HelpFlag) {
		_, meaning := FlagHelp(f)
		suggest("--"+f.Names()[0], meaning)
	}
}

// suggestWords suggests what is no flag: commands, or what the command itself knows (its BashComplete, which prints words).
func suggestWords(app *cli.App, command *cli.Command, suggest func(word, meaning string)) {
	commands := app.Commands
	if command != nil {
		commands = command.Subcommands
	}
	for _, c := range commands {
		suggest(c.Name, c.Usage)
	}
	if command == nil || command.BashComplete == nil {
		return
	}
	var words strings.Builder
	asked := *app
	asked.Writer = &words
	command.BashComplete(cli.NewContext(&asked, nil, nil))
	for word := range strings.Lines(words.String()) {
		suggest(strings.TrimSpace(word), "")
	}
}

// choice is a flag that takes one of a few words.
type choice struct {
	*cli.StringFlag
	words []string
}

// CompletionShells are the shells that CompletionScript knows.
func CompletionShells() []string { return []string{"bash", "zsh", "fish"} }

// CompletionScript is what a shell reads to complete the program's command line; empty for a shell that is not known.
func CompletionScript(shell string) string {
	switch shell {
	case "bash":
		return `# bash completion of cnibox: source it, or put it into /usr/share/bash-completion/completions/cnibox
_cnibox() {
	local IFS=$'\n' current=${COMP_WORDS[COMP_CWORD]}
	COMPREPLY=($(compgen -W "$("$1" "${COMP_WORDS[@]:1:COMP_CWORD}" ` + CompleteArg + ` 2>/dev/null | cut -f1)" -- "$current"))
}
complete -o bashdefault -o default -F _cnibox cnibox
`
	case "zsh":
		return `#compdef cnibox
# zsh completion of cnibox: put it into a folder of $fpath as _cnibox
_cnibox() {
	local -a words_known
	local line
	for line in ${(f)"$(${words[1]} "${(@)words[2,CURRENT]}" ` + CompleteArg + ` 2>/dev/null)"}; do
		words_known+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	if (( $#words_known )); then
		_describe -V cnibox words_known
	else
		_files
	fi
}
if [[ $funcstack[1] == _cnibox ]]; then
	_cnibox "$@"
else
	compdef _cnibox cnibox
fi
`
	case "fish":
		return `# fish completion of cnibox: put it into /usr/share/fish/vendor_completions.d/cnibox.fish
function __cnibox_complete
	set -l words (commandline -opc) (commandline -ct)
	set -l known ($words[1] $words[2..] ` + CompleteArg + ` 2>/dev/null)
	if test (count $known) -gt 0
		printf '%s\n' $known
	else
		__fish_complete_path (commandline -ct)
	end
end
complete -c cnibox -f -a '(__cnibox_complete)'
`
	}
	return ""
}
