"""`swav completion`: what shells offer at a TAB."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from swav_plugin.__main__ import COMMANDS
from swav_plugin.checkpoints.catalog import find_models
from swav_plugin.commands import completion, train
from swav_plugin.shipped import config_names

CONFIG = 'swav_demo_digits'


@pytest.fixture(scope='module')
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The scripts, by shell."""
    folder = tmp_path_factory.mktemp('completion')
    commands = completion.read_commands()
    assert {*commands} == {*COMMANDS}
    paths = {}
    for shell, write in completion.SCRIPTS.items():
        paths[shell] = folder / f'swav.{shell}'
        paths[shell].write_text(write(commands))
    return paths


def offered(scripts: dict[str, Path], line: str) -> list[str]:
    """What bash offers for the last word of a line."""
    # As bash splits them.
    words = re.split(r' +|(?<==)|(?==)', line)
    code = f"""
        source {scripts['bash']}
        PATH=  # no program is started
        COMP_WORDS=({' '.join(f"'{word}'" for word in words)})
        COMP_CWORD={len(words) - 1}
        _swav
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ['bash', '-c', code], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return done.stdout.split()


def test_bash_offers_what_fits(scripts: dict[str, Path]) -> None:
    configs, models = [*config_names()], [*find_models()]
    for line, expected in {
        'swav ': [*COMMANDS],
        'swav tr': ['train'],
        'swav train swav_demo_d': [CONFIG],
        'swav train ': configs,
        'swav train x ': [],  # files
        'swav train --amp ': configs,
        'swav train --work-dir ': [],
        'swav train --work-dir d ': configs,
        'swav train --work-dir=': [],
        'swav train --work-dir=d ': configs,
        'swav train --launcher ': ['none', 'pytorch', 'slurm', 'mpi'],
        'swav train --launcher=sl': ['slurm'],
        'swav train --cfg-options a=1 b': [],
        'swav train x --pretrained ': models,
        'swav test ': configs,
        'swav test x ': models,
        'swav zoo ': ['list', 'info', 'download'],
        'swav zoo download ': models,
        'swav suite x --only knn sv': ['svm'],
        'swav convert x y --to torchv': ['torchvision'],
        'swav extract ': models,
        'swav extract x --config ': configs,
        'swav completion ': ['bash', 'zsh', 'fish'],
        'swav nothing ': [],
    }.items():
        found = offered(scripts, line)
        assert sorted(found) == sorted(expected), line
    assert {'--gpus', '--data', '--plan'} < {*offered(scripts, 'swav train -')}
    assert offered(scripts, 'swav train --wo') == ['--work-dir']


def test_all_options_are_there(
    scripts: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train.parse_args(['--help'])
    options = re.findall(
        r'^  (?:-\w, )?(--[\w-]+)', capsys.readouterr().out, re.M
    )
    assert '--gpus' in options and '--device' not in options
    assert {*options} <= {*offered(scripts, 'swav train -')}


def test_bash_knows_where_the_script_belongs(
    scripts: dict[str, Path],
) -> None:
    code = f'source {scripts["bash"]}; complete -p swav'
    done = subprocess.run(['bash', '-c', code], capture_output=True, text=True)
    assert done.stdout == 'complete -o default -F _swav swav\n'


@pytest.mark.skipif(not shutil.which('zsh'), reason='there is no zsh')
def test_zsh_reads_it(scripts: dict[str, Path]) -> None:
    # As zsh's bashcompinit calls it; zsh itself drops what does not match.
    code = f"""
        source {scripts['zsh']}
        echo $_comps[swav]
        offer() {{
            emulate -L sh; setopt kshglob noshglob braceexpand
            _swav; echo ${{COMPREPLY[@]}}
        }}
        COMP_WORDS=(swav train x --amp --launcher s) COMP_CWORD=5
        offer
    """
    done = subprocess.run(
        ['zsh', '-f', '-c', code], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        '_bash_complete -o default -F _swav',
        'none pytorch slurm mpi',
    ], done


@pytest.mark.skipif(not shutil.which('fish'), reason='there is no fish')
def test_fish_reads_it(scripts: dict[str, Path]) -> None:
    for line, expected in {
        'swav tr': ['train'],
        'swav train swav_demo_d': [CONFIG],
        'swav train --launcher sl': ['slurm'],
        'swav train --wo': ['--work-dir'],
    }.items():
        code = f"source {scripts['fish']}; complete -C '{line}'"
        done = subprocess.run(
            ['fish', '-N', '-c', code], capture_output=True, text=True
        )
        found = [row.split('\t')[0] for row in done.stdout.splitlines()]
        assert found == expected, done
