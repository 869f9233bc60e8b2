"""Misspelt arguments."""

import pytest

from swav_plugin.commands import suite
from swav_plugin.compat.arguments import Parser


@pytest.mark.parametrize(
    ('words', 'meant'),
    [
        (['--only', 'knm'], 'did you mean knn?'),
        (['--onyl', 'knn'], 'did you mean --only?'),
        (['--epoch-s=3', '--withrandom'], 'mean --epochs, --with-random?'),
        (['--only', 'qqq'], None),
        (['more'], None),
    ],
)
def test_what_may_be_meant(
    words: list[str], meant: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        suite.parse_args(['x.pth', '--out', 'out', *words])
    assert end.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(meant) if meant else 'did you mean' not in line


def test_commands_below_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog='a')
    actions = parser.add_subparsers(metavar='ACTION')
    actions.add_parser('list').add_argument('--long')
    for words, meant in ((['lsit'], 'list'), (['list', '--logn'], None)):
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        line = capsys.readouterr().err.splitlines()[-1]
        assert ('did you mean' in line) == bool(meant)
