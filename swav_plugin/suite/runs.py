"""Plan the runs of a suite and run them one after the other.

Each run has a folder of its own, named by a hash of all that its numbers
depend on: what is done is found again, and what has changed runs anew. The
version of this package is not in the hash, but noted beside the numbers.
"""

import copy
import datetime
import hashlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.device import get_device

import swav_plugin
from swav_plugin.checkpoints import RANDOM, Checkpoint, checkpoint_name
from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.checkpoints.file_kind import CheckpointError
from swav_plugin.checkpoints.keys import backbone_weights
from swav_plugin.checkpoints.training_state import check_finite
from swav_plugin.checkpoints.zoo import checkpoint_source
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.launch import find_weights
from swav_plugin.engine.processes import typed_command
from swav_plugin.engine.results import RESULTS
from swav_plugin.models.resnet import resnet_arguments

from .adapt import Options, dicts_of, make_config
from .benchmarks import BENCHMARKS, Benchmark, known_datasets
from .data import FoundDataset, UnfitDataset, find_datasets, parse_paths
from .measure import Run, measure, read_done
from .render import heading, to_html, to_markdown


class Subject(NamedTuple):
    """A network that is measured.

    Args:
        name: 'pretrained' or 'random'.
        title: What the report calls it.
        weights: The file of its weights, or 'random'.
        digest: SHA-256 of that file.
    """

    name: str
    title: str
    weights: str
    digest: str

    @property
    def folder(self) -> str:
        """Name the folder of its runs."""
        if self.name == RANDOM:
            return RANDOM
        return f'{self.title.replace("/", "-")}-{self.digest[:8]}'


def run_suite(
    checkpoint: str,
    out: Path,
    names: Sequence[str] = tuple(BENCHMARKS),
    root: Path = Path('data'),
    datasets: Sequence[str] = (),
    options: Options = Options(),
    with_random: bool = False,
) -> int:
    """Run every benchmark that can be run; write the report after each.

    Args:
        checkpoint: A file, a URL or the name of a model of the zoo.
        out: Folder for all results.
        names: Names of the benchmarks.
        root: Folder of the datasets.
        datasets: 'NAME=PATH' of those that are elsewhere, or stand in.
        options: What to change about the runs.
        with_random: Measure the same network at random initialization, too.

    Returns:
        How many runs failed.

    Raises:
        UsageError: An argument does not fit, or there is nothing to run.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f'--out {out} is a file; give a folder')
    checkpoint = checkpoint_source(checkpoint)
    weights = Checkpoint(find_weights(checkpoint))
    network = read_network(weights)
    options = replace(options, settings=weights.settings)
    weights.drop()
    subjects = [
        Subject(
            'pretrained',
            checkpoint_name(checkpoint),
            str(weights.path),
            weights.sha256,
        )
    ]
    if with_random:
        subjects.append(
            Subject(RANDOM, 'random initialization', RANDOM, RANDOM)
        )
    suite = _empty_report(checkpoint, subjects, network, options)
    found = _find_data(names, root, datasets, options)
    runs = plan(suite, subjects, names, found, network, out, options)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f'--out {out}: {error.strerror}') from None
    for number, run in enumerate(runs, start=1):
        line = f'[{number}/{len(runs)}] {heading(suite, run.entry)}: '
        line += f'{run.folder}/log.txt'
        done = read_done(run)
        if done:
            versions = ', '.join(done['versions'])
            line += f', done before with swav_plugin {versions}'
        print(line, flush=True)
        run.entry.pop('reason')
        run.entry.update(measure(run, out, options.gpus))
        print_results(run.entry)
        write_report(out, suite)
    print(f'{out}/report.html, results.md and results.json')
    return sum(entry['status'] == 'failed' for entry in suite['entries'])


def _find_data(
    names: Sequence[str],
    root: Path,
    datasets: Sequence[str],
    options: Options,
) -> dict[str, FoundDataset]:
    """Find the datasets of benchmarks; arguments are those of `run_suite`.

    Raises:
        UsageError: There is no such folder.
    """
    if names and not datasets and not root.is_dir():
        raise UsageError(
            f'--root {root}: there is no such folder; give the one that has '
            'the datasets, or --dataset NAME=PATH'
        )
    return find_datasets(
        [
            BENCHMARKS[name].data
            for name in names
            if not BENCHMARKS[name].missing_library()
        ],
        root,
        parse_paths(datasets, known_datasets()),
        options.skip_unreadable,
    )


def read_network(checkpoint: Checkpoint) -> dict[str, int]:
    """Read depth and width of the ResNet in a checkpoint.

    Raises:
        UsageError: It does not hold a ResNet, or one that is not finite.
    """
    try:
        backbone = backbone_weights(checkpoint.weights)
        check_finite(backbone, checkpoint)
        return resnet_arguments(backbone)
    except CheckpointError as error:
        raise UsageError(str(error)) from None
    except ValueError as error:
        raise UsageError(
            f'{checkpoint}: {error} The benchmarks need such a network; kNN '
            'of any other is measured in training, by val_cfg of a recipe'
        ) from None


def _empty_report(
    checkpoint: str,
    subjects: Sequence[Subject],
    network: dict[str, int],
    options: Options,
) -> dict[str, Any]:
    """Return a report without entries; `report` describes it."""
    return dict(
        checkpoint={
            'Checkpoint': checkpoint,
            'SHA-256': subjects[0].digest,
            'Network': 'ResNet-{depth}, {stem_channels} channels in the stem, '
            '{base_channels} in the first stage'.format(**network),
        },
        setting={
            'Command': typed_command(),
            'Software': f'swav_plugin {swav_plugin.__version__}, torch '
            f'{torch.__version__}, Python {platform.python_version()}',
            'Processes': f'{options.gpus} on {get_device()}',
        },
        subjects={subject.name: subject.title for subject in subjects},
        entries=[],
    )


def plan(
    suite: dict[str, Any],
    subjects: Sequence[Subject],
    names: Sequence[str],
    found: dict[str, FoundDataset],
    network: dict[str, int],
    out: Path,
    options: Options,
) -> list[Run]:
    """Enter every benchmark into the report; return what is to be run.

    Args:
        suite: The report. Benchmarks that can't run are entered as skipped.
        subjects: The networks.
        names: Names of the benchmarks.
        found: Datasets by name.
        network: Arguments of the ResNet of all subjects.
        out: Folder of the report.
        options: What the user asks for.

    Raises:
        UsageError: An option does not fit, or there is nothing to run.
    """
    runs = []
    for name in names:
        data = _dataset_of(BENCHMARKS[name], found)
        about = dict(
            benchmark=name,
            data=data.title,
            is_stand_in=data.is_stand_in,
            config=f'configs/benchmarks/{BENCHMARKS[name].config}',
        )
        problem = data.problem
        if problem is None:
            try:
                cfg, notes = make_config(
                    name, network, data, options, out / 'features'
                )
            except UnfitDataset as error:
                problem = str(error)
        if problem is not None:
            print(f'{name}: skipped, {problem}')
            suite['entries'] += [
                dict(
                    about,
                    subject=subject.name,
                    status='skipped',
                    reason=problem,
                )
                for subject in subjects
            ]
            continue
        for subject in subjects:
            folder = _folder(name, subject, cfg, data, options)
            entry = dict(
                about,
                subject=subject.name,
                notes=notes,
                status='waiting',
                reason='not yet run',
                folder=str(folder),
            )
            suite['entries'].append(entry)
            runs.append(Run(entry, out / folder, cfg, subject.weights))
    if not runs:
        raise UsageError(
            'nothing to run: each benchmark lacks its data or a library, as '
            'said above'
            if names
            else 'nothing to run: --skip leaves none of --only'
        )
    return runs


def _dataset_of(
    benchmark: Benchmark, found: dict[str, FoundDataset]
) -> FoundDataset:
    """Return the data of a benchmark, or say that a library is missing."""
    problem = benchmark.missing_library()
    if problem is None:
        return found[benchmark.data.name]
    return FoundDataset(benchmark.data, Path(benchmark.data.folder), problem)


def _folder(
    name: str,
    subject: Subject,
    cfg: Config,
    data: FoundDataset,
    options: Options,
) -> Path:
    """Name the folder of a run, relative to that of the report."""
    key = make_key(
        cfg,
        subject.digest,
        data.digest,
        # The numbers of a test are the same on any number.
        options.gpus if BENCHMARKS[name].trains else None,
    )
    return Path(subject.folder, f'{name}-{key[:12]}')


def make_key(cfg: Config, *others: Any) -> str:
    """Hash all that numbers depend on."""
    content = copy.deepcopy(cfg.to_dict())
    for node in dicts_of(content):
        for name in ('num_workers', 'cache_dir'):
            node.pop(name, None)
    text = json.dumps([content, *others], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def print_results(entry: dict[str, Any]) -> None:
    """Print the numbers of a run, or why there are none."""
    if entry['status'] == 'failed':
        print(f'  failed: {entry["reason"]}', file=sys.stderr, flush=True)
    for result in entry.get('results', ()):
        print(f'  {result["name"]}: {result["value"]:.2f}', flush=True)


def write_report(out: Path, suite: dict[str, Any]) -> None:
    """Write what is known so far, in three forms."""
    now = datetime.datetime.now()
    suite['setting']['Written'] = now.strftime('%Y-%m-%d %H:%M')
    for name, text in (
        (RESULTS, json.dumps(suite, indent=2)),
        ('results.md', to_markdown(suite)),
        ('report.html', to_html(suite, out)),
    ):
        # Names of files may be any bytes.
        write_atomic(out / name, text.encode(errors='backslashreplace'))
