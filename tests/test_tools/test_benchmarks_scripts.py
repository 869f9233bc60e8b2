"""Check what the scripts of tools/ and tools/benchmarks/ start."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
BENCHMARKS = TOOLS / 'benchmarks/classification'
SCRIPTS = {
    'train_linear': ('train.py', ['--pretrained']),
    'test_linear': ('test.py', []),
    'knn': ('test.py', []),
    'svm': ('test.py', []),
}
SLURM = [
    (TOOLS / 'slurm_train.sh', 'train.py', ['--work-dir']),
    (TOOLS / 'slurm_test.sh', 'test.py', []),
] + [
    (BENCHMARKS / f'slurm_{name}.sh', *what) for name, what in SCRIPTS.items()
]
DIST = [
    (BENCHMARKS / f'dist_{name}.sh', *what) for name, what in SCRIPTS.items()
]
TRANSFER = [
    (f'mmdetection/{{}}_{name}.sh', *what, '8')
    for name, what in (
        ('train_c4', ('train.py', ['--pretrained'])),
        ('train_fpn', ('train.py', ['--pretrained'])),
        ('test', ('test.py', [])),
    )
] + [
    ('mmsegmentation/{}_train.sh', 'train.py', ['--pretrained'], '4'),
    ('mmsegmentation/{}_test.sh', 'test.py', [], '4'),
]
# With a space: arguments stay whole.
MORE = ['--cfg-options', 'data_root=/my photos']


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., 'subprocess.CompletedProcess[str]']:
    """Run a script with an `srun` and a Python that print their arguments."""
    for name in ('srun', 'snake'):
        fake = tmp_path / name
        fake.write_text(
            '#!/bin/bash\nprintf "%s\\n" "$@"\necho "PYTHONPATH=$PYTHONPATH"\n'
        )
        fake.chmod(0o755)

    def run_script(
        script: Path, *arguments: str, **env: str
    ) -> 'subprocess.CompletedProcess[str]':
        cleared = {
            name: value
            for name, value in os.environ.items()
            if name not in ('GPUS', 'GPUS_PER_NODE', 'PORT', 'NNODES')
        }
        return subprocess.run(
            [script, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={
                **cleared,
                'PATH': f'{tmp_path}:{os.environ["PATH"]}',
                'PYTHON': 'snake',
                'PYTHONPATH': 'mine',
                **env,
            },
        )

    return run_script


@pytest.mark.parametrize(('script', 'tool', 'option'), DIST)
def test_dist(
    run: Callable[..., 'subprocess.CompletedProcess[str]'],
    script: Path,
    tool: str,
    option: list[str],
) -> None:
    done = run(
        script,
        'c.py',
        '8',
        'w.pth',
        *MORE,
        PORT='1234',
        NNODES='2',
        NODE_RANK='1',
        MASTER_ADDR='10.0.0.1',
    )
    assert done.stdout.splitlines() == [
        '-m',
        'torch.distributed.run',
        '--nnodes=2',
        '--node_rank=1',
        '--master_addr=10.0.0.1',
        '--master_port=1234',
        '--nproc_per_node=8',
        str(TOOLS / tool),
        'c.py',
        *option,
        'w.pth',
        *MORE,
        '--launcher',
        'pytorch',
        f'PYTHONPATH={ROOT}:mine',
    ]
    assert run(script, 'c.py', '0', 'w.pth').returncode == 2
    done = run(script, 'c.py', 'w.pth', '8')
    assert done.returncode == 2
    assert f'CONFIG GPUS CHECKPOINT [arguments of {tool}]' in done.stderr
    assert 'NNODES=1' in done.stderr and not done.stdout


@pytest.mark.parametrize(('script', 'tool', 'option'), SLURM)
def test_slurm(
    run: Callable[..., 'subprocess.CompletedProcess[str]'],
    script: Path,
    tool: str,
    option: list[str],
) -> None:
    # Pretraining is stopped and goes on: see test_faults.
    goes_on = script.name == 'slurm_train.sh'
    done = run(
        script,
        'part',
        'job',
        'c.py',
        'w',
        *MORE,
        GPUS='4',
        CPUS_PER_TASK='7',
        SRUN_ARGS='--qos=high --exclude=n7',
    )
    assert done.stdout.splitlines() == [
        '--partition=part',
        '--job-name=job',
        '--gres=gpu:4',
        '--ntasks=4',
        '--ntasks-per-node=4',
        '--cpus-per-task=7',
        '--kill-on-bad-exit=1',
        *(['--signal=USR1@120'] if goes_on else []),
        '--qos=high',
        '--exclude=n7',
        'snake',
        '-u',
        str(TOOLS / tool),
        'c.py',
        *option,
        'w',
        *MORE,
        *(['--resume'] if goes_on else []),
        '--launcher',
        'slurm',
        f'PYTHONPATH={ROOT}:mine',
    ]
    done = run(script, 'part', 'job', 'c.py', 'w')
    assert '--ntasks=8\n' in done.stdout
    done = run(script, 'part', 'job', 'c.py')
    assert done.returncode == 2 and not done.stdout
    assert 'PARTITION JOB CONFIG' in done.stderr
    assert 'GPUS_PER_NODE=8' in done.stderr


@pytest.mark.parametrize('name', SCRIPTS)
def test_twins_are_the_same(name: str) -> None:
    """Only the name tells what starts the processes."""
    assert (BENCHMARKS / f'dist_{name}.sh').read_text() == (
        BENCHMARKS / f'slurm_{name}.sh'
    ).read_text()


@pytest.mark.parametrize(('script', 'tool', 'option', 'gpus'), TRANSFER)
def test_transfer_takes_arguments_in_the_order_of_mmselfsup(
    run: Callable[..., 'subprocess.CompletedProcess[str]'],
    script: str,
    tool: str,
    option: list[str],
    gpus: str,
) -> None:
    dist = TOOLS / 'benchmarks' / script.format('dist')
    done = run(dist, 'a/c.py', 'w.pth', '3', *MORE)
    _, _, started = done.stdout.partition('--nproc_per_node=3\n')
    assert started.splitlines() == [
        str(TOOLS / tool),
        'a/c.py',
        *option,
        'w.pth',
        *MORE,
        '--launcher',
        'pytorch',
        f'PYTHONPATH={ROOT}:mine',
    ]
    done = run(dist, 'c.py', '3', 'w.pth')
    assert done.returncode == 2 and not done.stdout
    assert f'CONFIG CHECKPOINT GPUS [arguments of {tool}]' in done.stderr

    slurm = TOOLS / 'benchmarks' / script.format('slurm')
    done = run(slurm, 'part', 'a/c.py', 'w.pth', *MORE)
    assert done.stdout.splitlines() == [
        '--partition=part',
        '--job-name=c',
        f'--gres=gpu:{gpus}',
        f'--ntasks={gpus}',
        f'--ntasks-per-node={gpus}',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        'snake',
        '-u',
        str(TOOLS / tool),
        'a/c.py',
        *option,
        'w.pth',
        *MORE,
        '--launcher',
        'slurm',
        f'PYTHONPATH={ROOT}:mine',
    ]
    done = run(slurm, 'part', 'c.py')
    assert done.returncode == 2 and not done.stdout
    assert 'PARTITION CONFIG CHECKPOINT' in done.stderr
    assert f'GPUS={gpus} ' in done.stderr


@pytest.mark.parametrize('language', ['en', 'zh_CN'])
def test_the_batch_script_of_the_docs(
    run: Callable[..., 'subprocess.CompletedProcess[str]'],
    tmp_path: Path,
    language: str,
) -> None:
    """It asks sbatch for what srun then takes, and for the signal."""
    page = (ROOT / 'docs' / language / 'pretrain.md').read_text()
    (text,) = re.findall(r'```bash\n(.*?)```', page, re.DOTALL)
    script = tmp_path / 'job.sh'
    script.write_text(text)
    script.chmod(0o755)
    (tmp_path / 'tools').symlink_to(TOOLS)  # sbatch starts where it is called
    (tmp_path / '.venv/bin').mkdir(parents=True)
    (tmp_path / '.venv/bin/python').symlink_to(tmp_path / 'snake')
    env = dict(SLURM_JOB_PARTITION='part', SLURM_JOB_NAME='swav')
    done = run(script, **env)
    assert (done.returncode, done.stderr) == (0, '')
    asked = dict(re.findall(r'#SBATCH --([\w-]+)=(\S+)', text))
    taken = dict(
        line[2:].split('=', 1)
        for line in done.stdout.splitlines()
        if line.startswith('--') and '=' in line
    )
    for name in ('job-name', 'gres', 'ntasks-per-node', 'cpus-per-task'):
        assert asked[name] == taken[name]
    tasks = int(asked['nodes']) * int(asked['ntasks-per-node'])
    assert tasks == int(taken['ntasks'])
    assert asked['signal'] == taken['signal'] == 'USR1@120'
    assert '#SBATCH --requeue\n' in text
    assert done.stdout.splitlines()[-8:-1] == [
        'CONFIG', '--work-dir', 'WORK_DIR', '--amp', '--resume',
        '--launcher', 'slurm',
    ]  # fmt: skip
