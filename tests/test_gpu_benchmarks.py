"""benchmarks/gpu/run.sh measures every part, and goes on where it stopped."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.utils import digit_version

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / 'benchmarks'
PARTS = 'tests step loader eval profile imagenette cifar10'.split()
# What torch.compile needs on a CPU; without it the table says why.
COMPILES = digit_version(torch.__version__) >= digit_version('2.3') and bool(
    shutil.which('g++') or shutil.which('clang++')
)

# In place of Python in run.sh: runs run.py, but before it another call, which
# its own records kill: the part `step` after its second row, and everything
# after the first kNN of a run. Imports are done once.
KILLED_BEFORE = """#!{python}
import os, shutil, signal, sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv[1]).parent))
import records, run

save = records.Record.save

def save_and_die(self, **changes):
    save(self, **changes)
    if os.getpid() == call:  # which saves what its parts took
        return
    if len(self.content.get('steps', ())) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    runs = self.content.get('runs', {{}}).values()
    if any(len(run.get('knn', ())) == 1 for run in runs):
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

arguments = sys.argv[2:]
out = Path(arguments[arguments.index('--out') + 1])
process = os.fork()
if process == 0:
    call = os.getpid()
    records.Record.save = save_and_die
    options = arguments[arguments.index('--out') :]
    sys.argv = ['run.py', 'step', 'imagenette', *options]
    run.main()
    os._exit(0)
_, status = os.waitpid(process, 0)
(out / 'killed').mkdir()
for path in out.glob('*.json'):
    shutil.copy(path, out / 'killed')
print('killed by signal', os.WTERMSIG(status), flush=True)
sys.argv = ['run.py', *arguments]
run.main()
"""


def read(out: Path, part: str) -> dict[str, Any]:
    (path,) = out.glob(f'{part}_*.json')
    return json.loads(path.read_text())


class Calls(NamedTuple):
    """Records of a call that was killed, and of one that went on."""

    killed: dict[str, dict]
    output: str
    code: int
    records: dict[str, dict]


@pytest.fixture(scope='module')
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    folder = tmp_path_factory.mktemp('gpu')
    python = folder / 'python'
    python.write_text(KILLED_BEFORE.format(python=sys.executable))
    python.chmod(0o755)
    out = folder / 'out'
    result = subprocess.run(
        [
            'bash',
            FOLDER / 'gpu/run.sh',
            *PARTS,
            *('--out', out, '--minutes', '30', '--dry'),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        env=dict(os.environ, PYTHON=str(python)),
    )
    print(result.stdout)
    return Calls(
        {part: read(out / 'killed', part) for part in ('step', 'imagenette')},
        result.stdout,
        result.returncode,
        {part: read(out, part) for part in PARTS},
    )


def test_all_parts_are_measured_and_in_the_table(calls: Calls) -> None:
    assert calls.code == 0, calls.output
    table = calls.output.rpartition('\npart ')[2].splitlines()
    assert {line.split()[0] for line in table[1:-1]} == set(PARTS)
    reasons = [line for line in table if 'not measured' in line]
    assert len(reasons) == (not COMPILES), reasons
    for part, record in calls.records.items():
        if part != 'step' or COMPILES:
            assert record['finished'] and not record['missing']
        assert record['took_s'] > 0
        assert record['hardware']['commit'] and record['options']['is_dry']


def test_a_killed_step_goes_on(calls: Calls) -> None:
    before, after = calls.killed['step'], calls.records['step']
    assert not before['finished']
    assert [row['name'] for row in before['steps']] == [
        'mmpretrain float32',
        'swav_plugin float32',
    ]
    names = [row['name'] for row in after['steps']]
    assert names[2:] == [
        'swav_plugin float32, LARS of mmpretrain',
        *['swav_plugin float32, compile'] * COMPILES,
    ]
    # What a killed call has spent counts too.
    assert 0 < before['took_s'] < after['took_s']
    for old, new in zip(before['steps'], after['steps']):
        assert len(old['rounds_ms']) == 1
        assert new['rounds_ms'][:1] == old['rounds_ms']
    assert {len(row['rounds_ms']) for row in after['steps']} == {2}
    # A CPU has no kernels to wait for.
    assert {row['host_syncs'] for row in after['steps']} == {None}


def test_a_killed_training_goes_on(calls: Calls) -> None:
    assert f'killed by signal {signal.SIGKILL:d}' in calls.output
    (before,) = calls.killed['imagenette']['runs'].values()
    (after,) = calls.records['imagenette']['runs'].values()
    assert before['max_epochs'] == after['max_epochs'] == 2
    assert before['warm_up'] == after['warm_up']
    assert [row['epoch'] for row in before['knn']] == [1]
    assert [row['epoch'] for row in after['knn']] == [1, 2]
    assert after['knn'][0] == before['knn'][0]
    assert {row['epoch'] for row in after['loss']} == {1, 2}
    assert after['loss'][: len(before['loss'])] == before['loss']


def test_records_are_those_that_report_reads(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = load('report', monkeypatch)
    monkeypatch.setattr(report, 'FOLDER', tmp_path)
    (tmp_path / 'results').mkdir()
    for part in ('step', 'loader', 'eval'):
        path = tmp_path / f'results/{part}_cpu_2000-01-01.json'
        path.write_text(json.dumps(calls.records[part]))
    text = report.steps_table()
    for row in calls.records['step']['steps']:
        assert f'| {row["name"]} |' in text
    assert '| training, cutting views | 1 |' in text
    paths = [row['path'] for row in calls.records['loader']['end_to_end']]
    assert paths == ['cpu', 'device']
    assert 'kNN, 200 queries, 3,000 features' in report.eval_table()


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.syspath_prepend(FOLDER / 'gpu')
    return importlib.import_module(name)


def test_time_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load('run', monkeypatch)

    monkeypatch.setattr(run.time, 'monotonic', lambda: 0.0)
    hardware = dict(gpu='G', cpu='', torch='', commit='', cores=1)

    def shares(seconds: float, *parts: str) -> list[float | None]:
        """What each part gets if those before take what they need."""
        argv = ['run.sh', *parts, '--out', str(tmp_path), '--minutes', '9']
        monkeypatch.setattr(sys, 'argv', argv)
        plan = run.Plan(run.parse_args(), hardware, seconds + run._LAST_S)
        result = []
        for i, name in enumerate(parts):
            result.append(plan._share_s(i))
            if result[-1] is not None:
                part = run.PARTS[name]
                plan.end -= result[-1] if part.grows else part.needs_s
        return result

    # What grows takes the rest, and leaves to later parts what they need.
    assert shares(600, 'tests', 'imagenette') == [420, 510]
    assert shares(600, 'imagenette', 'tests') == [510, 90]
    assert shares(600, 'imagenette', 'cifar10') == [270, 330]
    # The first get theirs; what no longer fits is left out.
    assert shares(180, 'tests', 'step', 'profile') == [90, None, 90]
    assert shares(160, 'tests', 'step', 'profile') == [90, None, None]
    # Nearly what it needs is enough.
    assert shares(85, 'tests') == [85]


def test_time_counts_until_a_process_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = load('records', monkeypatch)
    now = [100.0]
    monkeypatch.setattr(records.time, 'monotonic', lambda: now[0])
    path = tmp_path / 'step.json'
    for until_s, expected in ((7, 7.0), (3, 10.0)):
        content = json.loads(path.read_text()) if path.exists() else {}
        record = records.Record(path, content)
        record.start_clock()
        now[0] += until_s
        record.save(steps=[1])  # and then it is killed
        now[0] += 50
        assert json.loads(path.read_text())['took_s'] == expected


def test_steps_that_cannot_run_say_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = load('bench_step', monkeypatch)
    argv = '--depth 18 --stages 1 --batch-size 2 --views 2 2 --sizes 32 16 '
    argv += '--num-prototypes 4 --queue-length 0 --steps 1 --rounds 1'
    args = bench.parse_args([*argv.split(), '--compile'])
    args.device = 'cuda'
    compiled = [name for name in bench.list_variants(args) if 'comp' in name]
    assert compiled == [
        'swav_plugin float32, compile',
        'swav_plugin float32, compile reduce-overhead',
    ]
    args.device = 'cpu'
    variants = {
        name: bench.Variant(
            bench.our_model, bench.our_lars, torch.float32, changes
        )
        for name, changes in dict(
            no=dict(compile=dict(mode='no-such-mode')), yes={}
        ).items()
    }
    monkeypatch.setattr(bench, 'list_variants', lambda args: variants)
    with DefaultScope.overwrite_default_scope('swav_plugin'):
        rows, missing = bench.compare_steps(args)
    assert [row['name'] for row in rows] == ['yes']
    assert list(missing) == ['no'] and 'no-such-mode' in missing['no']


@pytest.mark.parametrize('outcome', ['fast', 'slow', 'fails', 'no time'])
def test_trainings_try_compile(
    outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, trainings = (
        load(name, monkeypatch) for name in ('records', 'trainings')
    )
    monkeypatch.setattr(trainings.time, 'monotonic', lambda: 0.0)
    call = records.Call(None, tmp_path, False, dict(gpu='G'), 0.0)
    record = records.Record(tmp_path / 'a.json', {})
    recipe = trainings.IMAGENETTE['R18, 2x128 + 6x64']
    training = trainings._Training(recipe, {}, record, call)
    asked: list[str] = []

    def train(*args: Any, more: list[str]) -> bool:
        asked.extend(more)
        end, note = args[3], args[4]
        assert end == trainings._TRIAL_S
        if outcome == 'fails':
            raise RuntimeError('the training ended with 1')
        lines = [dict(loss=1.0, images_per_s=speed) for speed in (1, 90, 80)]
        if outcome == 'slow':
            lines = lines[:1]
        assert note(lines) == (outcome == 'fast')
        return False

    monkeypatch.setattr(training, '_train', train)
    training._try_compile(100.0 if outcome == 'no time' else 500.0)
    expected = dict(
        fast=' (compiled: 85)',
        slow=' (compiled: no epochs within 90 s)',
        fails=' (compiled: the training ended with 1)',
    )
    assert trainings._compiled(training.run) == expected.get(outcome, '')
    assert bool(asked) == (outcome != 'no time')


def test_records_of_other_code_are_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = load('records', monkeypatch)
    hardware = dict(gpu=None, cpu='c', torch='2', commit='a')
    options = dict(is_dry=False, sizes=(224, 96))
    first = records.open_record('step', tmp_path, hardware, options)
    first.save(steps=[1])
    again = records.open_record('step', tmp_path, dict(hardware), options)
    assert again.path == first.path and again.content['steps'] == [1]
    for other in (
        records.open_record(
            'step', tmp_path, dict(hardware, commit='b'), options
        ),
        records.open_record(
            'step', tmp_path, hardware, dict(options, sizes=(32, 16))
        ),
    ):
        assert other.path != first.path and 'steps' not in other.content


def test_gaps_and_kernels_of_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = load('kernels', monkeypatch)

    def event(
        name: str, begin: float, dur: float, cat: str = 'kernel'
    ) -> dict:
        return dict(name=name, ts=begin, dur=dur, cat=cat, ph='X')

    result = kernels.summarize(
        [
            event('a', 0, 400),
            event('b', 300, 200),  # in another stream
            event('a', 700, 100),
            event('copy', 900, 100, 'gpu_memcpy'),
            event('aten::mm', 0, 5000, 'cpu_op'),
            dict(name='no event of a kernel', ph='M'),
        ],
        num_steps=2,
    )
    # 500 to 700 and 800 to 900, of 1000 microseconds.
    assert result['idle_share'] == 0.3
    assert result['longest_gaps_ms'] == [0.2, 0.1]
    assert result['largest'][0] == dict(
        name='a', ms=0.25, calls=1, share=0.625
    )


def test_waits_for_the_gpu_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = load('bench_step', monkeypatch)
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, 'synchronize', lambda: None)
    monkeypatch.setattr(torch.cuda, 'set_sync_debug_mode', modes.append)

    def step() -> None:
        for _ in range(3):
            warnings.warn('called a synchronizing CUDA operation')
        warnings.warn('something else')

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        num, lines = bench.count_syncs(step, 'cuda')
    assert num == 3 and list(lines.values()) == [3]
    assert modes == ['warn', 'default']
    assert bench.count_syncs(step, 'cpu') == (None, {})


def test_outcomes_of_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = load('gpu_tests', monkeypatch)
    output = [
        '[gw1] [ 50%] PASSED tests/t.py::test_a[x y] \n',
        '[gw0] [ 66%] FAILED tests/t.py::test_b\n',
        'tests/t.py::test_c SKIPPED (needs a CUDA device)     [100%]\n',
        'tests/t.py::test_d \n',
        'FAILED tests/t.py::test_b - assert 1 == 2\n',
        '=========== 1 failed, 1 passed, 1 skipped in 2.00s ===========\n',
    ]
    assert list(tests.read_outcomes(output)) == [
        ('tests/t.py::test_a[x y]', 'passed'),
        ('tests/t.py::test_b', 'failed'),
        ('tests/t.py::test_c', 'skipped'),
    ]


def test_code_is_named_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    common = load('common', monkeypatch)
    monkeypatch.setenv('SWAV_COMMIT', 'abc1234')
    assert common.find_commit() == 'abc1234'
    monkeypatch.delenv('SWAV_COMMIT')
    monkeypatch.setenv('PATH', '')
    assert common.find_commit().startswith('files-')
