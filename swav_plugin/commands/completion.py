"""Print a script that lets a shell complete commands, options and names.

    swav completion bash > ~/.local/share/bash-completion/completions/swav
    swav completion zsh > ~/.swav_completion.zsh    # source it in ~/.zshrc
    swav completion fish > ~/.config/fish/completions/swav.fish

All words are in the script, so that TAB starts no Python: importing torch
would take seconds. After an update write it again.
"""

import argparse
import pkgutil
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

import swav_plugin.commands
from swav_plugin import __version__
from swav_plugin.checkpoints.catalog import find_models
from swav_plugin.compat.arguments import Parser
from swav_plugin.shipped import config_names

ANY_NUMBER = 99
# What arguments of these names take; of any other, files.
_NAMES = {
    'CONFIG': 'configs',
    'CHECKPOINT': 'models',
    'MODEL': 'models',
    'NAME': 'models',
    'PATTERN': 'models',
    'NAME|FILE|URL': 'models',
}


class Argument(NamedTuple):
    """What may be written for an option, or at a place.

    Args:
        takes: How many words.
        words: The words, or 'configs' or 'models'; none for files.
        about: What it is for.
    """

    takes: int
    words: tuple[str, ...]
    about: str = ''


@dataclass
class Command:
    """A command: its options by name, and what goes where."""

    about: str
    options: dict[str, Argument] = field(default_factory=dict)
    places: list[Argument] = field(default_factory=list)


class _Made(Exception):
    """Carries the parser of a command."""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('shell', choices=[*SCRIPTS], help='which shell')
    return parser.parse_args(argv)


def read_commands() -> dict[str, Command]:
    """Ask each command for its arguments."""
    commands = {}
    for _, name, _ in pkgutil.iter_modules(swav_plugin.commands.__path__):
        module = import_module(f'swav_plugin.commands.{name}')
        if hasattr(module, 'main'):  # others are what commands share
            commands[name] = Command(str(module.__doc__).partition('\n')[0])
            _add_actions(commands[name], _parser_of(module))
    return commands


def _parser_of(module: Any) -> argparse.ArgumentParser:
    """Return the parser that a command makes to read its command line."""

    def stop(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise _Made(parser)

    before = argparse.ArgumentParser.parse_args
    argparse.ArgumentParser.parse_args = stop  # type: ignore
    try:
        module.parse_args([])
    except _Made as made:
        return made.args[0]
    finally:
        argparse.ArgumentParser.parse_args = before  # type: ignore
    raise AssertionError(f'{module.__name__} makes no parser')


def _add_actions(command: Command, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a parser, and of those below it."""
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        argument = _argument(action)
        for option in action.option_strings:
            if option.startswith('--'):
                command.options[option] = argument
        if not action.option_strings:
            command.places.append(argument)
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                places = len(command.places)
                _add_actions(command, inner)
                # All take a name there, if anything.
                del command.places[max(places, 2) :]


def _argument(action: argparse.Action) -> Argument:
    """Return what an argument of argparse takes."""
    takes = 1 if action.nargs in (None, '?') else ANY_NUMBER
    if action.nargs == 0:
        takes = 0
    words = tuple(map(str, action.choices or ()))
    name = str(action.metavar or action.dest.upper())
    # What --resume takes is of a run, never of the zoo.
    if not words and name in _NAMES and action.dest != 'resume':
        words = (_NAMES[name],)
    return Argument(takes, words, str(action.help).partition(' (default')[0])


def for_bash(commands: dict[str, Command]) -> str:
    """Return the script for bash, which zsh can read, too."""
    takes, words = defaultdict(list), defaultdict(list)
    for name, command in commands.items():
        for option, argument in command.options.items():
            if argument.takes != 1:
                takes[f'left={argument.takes}'].append(f'{name}:{option}')
        for key, argument in (
            *command.options.items(),
            *enumerate(command.places),
        ):
            if argument.words:
                words[f'words={_quote(argument)}'].append(f'{name}:{key}')
    options = (
        f"{name}) words='{' '.join(command.options)}' ;;"
        for name, command in commands.items()
    )
    return _BASH.format(
        version=__version__,
        commands=' '.join(commands),
        configs=' '.join(config_names()),
        models=' '.join(find_models()),
        takes='\n                '.join(_cases(takes)),
        options='\n            '.join(options),
        words='\n            '.join(_cases(words)),
    )


def _cases(keys: dict[str, list[str]]) -> list[str]:
    """Return lines of a `case`: what to do, and for which words."""
    return [f'{"|".join(words)}) {then} ;;' for then, words in keys.items()]


def _quote(argument: Argument) -> str:
    """Return words as a shell assigns them."""
    if argument.words in (('configs',), ('models',)):
        return f'"${argument.words[0]}"'
    return f"'{' '.join(argument.words)}'"


_BASH = """\
# Completes swav of swav_plugin {version}; written by swav completion.
_swav() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} command=${{COMP_WORDS[1]}}
    local configs='{configs}'
    local models='{models}'
    local words= word= option= place=0 left=0 i
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W '{commands}' -- "$cur"))
        return
    fi
    # Of which option is this a value, or at which place is it?
    for ((i = 2; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        if [ "$word" = = ]; then
            continue # of --option=value
        elif [ "${{word#--}}" != "$word" ]; then
            option=$word left=1
            case "$command:$option" in
                {takes}
            esac
        elif [ "$left" -gt 0 ]; then
            left=$((left - 1))
        else
            place=$((place + 1))
        fi
    done
    [ "$cur" = = ] && cur=
    [ "$left" -gt 0 ] && place=$option
    if [ "${{cur#-}}" != "$cur" ]; then
        case "$command" in
            {options}
        esac
    else
        case "$command:$place" in
            {words}
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _swav swav
"""


def for_zsh(commands: dict[str, Command]) -> str:
    """Return the script for zsh, which has a reader for those of bash."""
    return (
        '(( $+functions[compdef] )) || { autoload -Uz compinit; compinit; }\n'
        'autoload -Uz bashcompinit; bashcompinit\n' + for_bash(commands)
    )


def for_fish(commands: dict[str, Command]) -> str:
    """Return the script for fish."""
    lines = [
        f'# Completes swav of swav_plugin {__version__}; written by swav '
        'completion.',
        f"set -l configs '{' '.join(config_names())}'",
        f"set -l models '{' '.join(find_models())}'",
    ]
    for name, command in commands.items():
        lines.append(
            f'complete -c swav -f -n __fish_use_subcommand -a {name} '
            f'-d {_fish(command.about)}'
        )
        start = f"complete -c swav -n '__fish_seen_subcommand_from {name}'"
        for option, argument in command.options.items():
            line = f'{start} -l {option[2:]} -d {_fish(argument.about)}'
            if argument.takes:
                line += f' -x -a {_quote(argument)}' * bool(argument.words)
                line += ' -r' * (not argument.words)
            lines.append(line)
        lines += [
            f'{start} -a {_quote(argument)}'
            for argument in command.places
            if argument.words
        ]
    return '\n'.join(lines) + '\n'


def _fish(text: str) -> str:
    """Return a text as fish quotes it."""
    return "'" + text.replace('\\', '\\\\').replace("'", "\\'") + "'"


SCRIPTS: dict[str, Callable[[dict[str, Command]], str]] = dict(
    bash=for_bash, zsh=for_zsh, fish=for_fish
)


def main() -> None:
    """Print the script."""
    args = parse_args()
    sys.stdout.write(SCRIPTS[args.shell](read_commands()))


if __name__ == '__main__':
    main()
