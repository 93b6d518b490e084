"""``ipckit completion``: print the code for shell completion."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

from ipckit._cli.output import say_lines

_SHELLS: Final = ("bash", "zsh", "fish")
# In bash a colon ends a word, so bash would complete only what follows the colon of q:5.
_BASH_COLONS: Final = """
_ipckit_objects() {
    local before=${COMP_LINE:0:$COMP_POINT} COMP_CWORD word
    local -a COMP_WORDS
    read -ra COMP_WORDS <<< "$before"
    [[ $before == *[[:space:]] ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    word=${COMP_WORDS[COMP_CWORD]}
    _ipckit_completion "$@"
    if [[ $COMP_WORDBREAKS == *:* && $word == *:* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
    fi
}
complete -o nosort -F _ipckit_objects ipckit
"""
_EXAMPLES: Final = """\b
Examples:
  eval "$(ipckit completion bash)"        in ~/.bashrc
  eval "$(ipckit completion zsh)"         in ~/.zshrc
  ipckit completion fish > ~/.config/fish/completions/ipckit.fish
"""


@click.command(epilog=_EXAMPLES)
@click.argument("shell", type=click.Choice(_SHELLS))
def command(shell: str) -> None:
    """Print the code that makes a shell complete commands, options and object names."""
    found = get_completion_class(shell)
    if found is None:
        message = f"click has no completion for {shell}"
        raise click.ClickException(message)
    root = click.get_current_context().find_root().command
    source = found(root, {}, "ipckit", "_IPCKIT_COMPLETE").source()
    say_lines(source + (_BASH_COLONS if shell == "bash" else ""))
