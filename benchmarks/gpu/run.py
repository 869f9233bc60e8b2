"""Measure, on a GPU, as many parts as fit into some minutes.

Parts run in the order given, each in a process of its own, and write what they
measure to O/<part>_<card>_<date>.json at once: a call that is stopped keeps
what it has. A second call with the same O goes on; what is there, of the same
card, commit and sizes, is not measured again. A table of all comes last.
"""

import argparse
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import gpu_tests
import measure
import torch
import trainings
from bench_step import PACKAGES, one_line
from common import hardware
from records import Call, Record, open_record, print_table

from swav_plugin.datasets.transforms import MultiCrop
from swav_plugin.engine.processes import end_children_with_us

# For the table, and for a part to end by itself before it is ended.
_LAST_S, _MARGIN_S, _DRY_MARGIN_S = 3, 5, 1
_DRY_S = 5
# What parts take is an estimate: one also begins with this share of it left.
_FITS = 0.9


class Part(NamedTuple):
    """Something to measure.

    Args:
        what: For the help.
        needs_s: Seconds it takes; of one that grows, the fewest of use.
        options: What decides its numbers.
        run: Measures, and saves to the record.
        lines: What the table says of a record: what, and the numbers.
        folder: Below --data, if it cannot run without.
        grows: Takes all the time there is.
        cuts_views: Our loader cuts views, with compiled loops.
    """

    what: str
    needs_s: int
    options: Callable[[Call], dict[str, Any]]
    run: Callable[[Record, Call], None]
    lines: Callable[[dict[str, Any]], list[tuple[str, str]]]
    folder: str | None = None
    grows: bool = False
    cuts_views: bool = False


PARTS = dict(
    tests=Part(
        'the tests marked gpu',
        90,
        gpu_tests.options,
        gpu_tests.measure,
        gpu_tests.lines,
    ),
    step=Part(
        "a training step of ResNet-50, ours and mmpretrain's",
        300,
        measure.step_options,
        measure.measure_steps,
        measure.step_lines,
    ),
    loader=Part(
        'training from JPEG files, by workers and path',
        150,
        measure.loader_options,
        measure.measure_loader,
        measure.loader_lines,
        cuts_views=True,
    ),
    eval=Part(
        'kNN at the size of ImageNet, and 1,520 SVMs',
        150,
        measure.eval_options,
        measure.measure_eval,
        measure.eval_lines,
    ),
    profile=Part(
        'a trace of 20 steps: kernels and gaps',
        90,
        measure.step_options,
        measure.measure_profile,
        measure.profile_lines,
        cuts_views=True,
    ),
    imagenette=Part(
        'train ResNet-18 on Imagenette, with kNN',
        180,
        trainings.imagenette_options,
        trainings.measure_imagenette,
        trainings.lines,
        folder='imagenette160',
        grows=True,
        cuts_views=True,
    ),
    cifar10=Part(
        'train ResNet-18 on CIFAR-10 with two recipes, with kNN',
        240,
        trainings.cifar10_options,
        trainings.measure_cifar10,
        trainings.lines,
        folder='cifar10/cifar-10-batches-py',
        grows=True,
        cuts_views=True,
    ),
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    each = '\n'.join(
        f'  {name:<11} {part.what} ({part.needs_s} s'
        f'{" or more" if part.grows else ""}'
        f'{f", D/{part.folder}" if part.folder else ""})'
        for name, part in PARTS.items()
    )
    parser = argparse.ArgumentParser(
        prog='run.sh',
        description=f'{__doc__}\nparts, and how long they take:\n{each}',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'parts',
        metavar='PART',
        nargs='+',
        choices=PARTS,
        help=', '.join(PARTS),
    )
    parser.add_argument(
        '--data',
        metavar='D',
        type=Path,
        help='folder with photos, imagenette160 and cifar10, as far as the '
        'parts need them',
    )
    parser.add_argument(
        '--out', metavar='O', type=Path, required=True, help='for the records'
    )
    parser.add_argument(
        '--minutes', metavar='M', type=float, required=True, help='for all'
    )
    parser.add_argument(
        '--dry',
        action='store_true',
        help='tiny sizes, also on a CPU: does everything run?',
    )
    args = parser.parse_args()
    if args.data is not None and not args.data.is_dir():
        parser.error(f'--data {args.data} is not a folder')
    args.parts = list(dict.fromkeys(args.parts))
    args.out.mkdir(parents=True, exist_ok=True)
    args.out = args.out.resolve()
    return args


class Plan:
    """The parts of a call, and how the time is shared among them.

    Args:
        args: The command line.
        hardware: As `common.hardware` gives it.
        end: When all has to be done, on the monotonic clock.
        start_method: How processes start: 'fork' or 'spawn'.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        hardware: dict[str, Any],
        end: float,
        start_method: str = 'fork',
    ):
        self.args, self.end = args, end
        self.call = Call(
            args.data, args.out, args.dry, hardware, end, start_method
        )
        self.records = {name: self._open(name) for name in args.parts}
        self.reasons: dict[str, str] = {}
        self.is_failed = False

    def _open(self, name: str) -> Record:
        options = dict(is_dry=self.args.dry, **PARTS[name].options(self.call))
        return open_record(name, self.args.out, self.call.hardware, options)

    def needs_s(self, name: str) -> int:
        """Return the seconds a part takes; 0 if it is done."""
        if self.records[name].content['finished']:
            return 0
        return _DRY_S if self.args.dry else PARTS[name].needs_s

    def run(self) -> None:
        """Run the parts that fit, in the order given."""
        context = multiprocessing.get_context('fork')
        # Takes half a minute of a CPU: beside the first parts.
        compiling = context.Process(target=_compile_loops, daemon=True)
        compiling.start()
        for number, name in enumerate(self.args.parts):
            part = PARTS[name]
            if self.records[name].content['finished']:
                print(f'== {name}: done before', flush=True)
                continue
            if part.folder is not None and not self.args.dry:
                if self.call.find(part.folder) is None:
                    self.reasons[name] = f'there is no {part.folder} in --data'
                    continue
            if part.cuts_views:
                compiling.join(max(0, self._left_s()))
            share_s = self._share_s(number)
            if share_s is None:
                self.reasons[name] = (
                    f'needs {self.needs_s(name)} s, '
                    f'{max(0, self._left_s()):.0f} s left'
                )
                continue
            print(f'== {name}: at most {share_s:.0f} s', flush=True)
            self._run_part(name, time.monotonic() + share_s)

    def _left_s(self) -> float:
        return self.end - time.monotonic() - _LAST_S

    def _share_s(self, number: int) -> float | None:
        """Return the time of a part; None if it does not fit.

        Later parts keep what they need. What is to spare goes to the parts
        that grow, in equal shares, or to this one if there is none.
        """
        now, *later = self.args.parts[number:]
        needs_s = self.needs_s(now)
        left_s = self._left_s()
        if _FITS * needs_s > left_s:
            return None
        waiting = [
            name
            for name in later
            if not self.records[name].content['finished']
        ]
        spare_s = left_s - needs_s - sum(map(self.needs_s, waiting))
        if PARTS[now].grows:
            spare_s /= 1 + sum(PARTS[name].grows for name in waiting)
        return min(left_s, needs_s + max(0, spare_s))

    def _run_part(self, name: str, end: float) -> None:
        """Run a part in a process of its own, and end it in time."""
        margin_s = _DRY_MARGIN_S if self.args.dry else _MARGIN_S
        record = self.records[name]
        record.start_clock()
        process = self.call.start_process(
            _work,
            PARTS[name],
            record,
            replace(self.call, end=end - margin_s),
        )
        try:
            process.join(max(0, end - time.monotonic()))
            if process.is_alive():
                self.reasons[name] = 'ended: its time was over'
        finally:
            process.terminate()
            process.join(5)
            process.kill()
            process.join()
            record.reload()
            record.save()
        if name not in self.reasons and process.exitcode:
            self.is_failed = True
            self.reasons[name] = f'ended with exit code {process.exitcode}'

    def table(self) -> list[tuple[str, str, str]]:
        """Return a line for everything that was measured, or was not."""
        rows = []
        for name, record in self.records.items():
            record.reload()
            content = record.content
            rows += [(name, *line) for line in PARTS[name].lines(content)]
            missing = dict(content['missing'])
            if 'failed' in content:
                missing['failed'] = content['failed']
            rows += [
                (name, what, f'not measured: {reason}')
                for what, reason in missing.items()
            ]
            if 'took_s' in content:
                rows.append((name, 'time', f'{content["took_s"]:.0f} s'))
            reason = self.reasons.get(name)
            if not content['finished'] and not reason and not missing:
                reason = 'the call was interrupted'
            if reason:
                what = 'stopped' if record.path.exists() else 'not run'
                rows.append((name, what, reason))
        return rows


def _compile_loops() -> None:
    """Compile what cuts views, as the first use after an installation does."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    MultiCrop(num_views=[1], sizes=[8], crop_ratio_ranges=[(0.5, 1.0)])


def _work(part: Part, record: Record, call: Call) -> None:
    """Measure, in a process of its own; an error goes to the record."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_children_with_us()
    record.content.pop('failed', None)
    record.save()
    try:
        part.run(record, call)
    except Exception as error:
        record.save(failed=one_line(error))
        raise


def _stop(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def find_hardware(is_dry: bool) -> tuple[str, dict[str, Any]]:
    """Return how to start processes that see the GPU, and the hardware.

    A fork needs none of the seconds that imports take, but it cannot use the
    GPU if a library has touched it before. So this process must not.
    """
    found: dict[str, Any] = dict(gpu=None)
    for method in ('fork',) if is_dry else ('fork', 'spawn'):
        with multiprocessing.get_context(method).Pool(1) as pool:
            with suppress(RuntimeError):  # of a GPU that cannot be used
                found = pool.apply(hardware, (PACKAGES,))
        if found['gpu'] is not None:
            break
    return method, found


def main() -> None:
    """Measure and print the table."""
    start = time.monotonic()
    args = parse_args()
    end_children_with_us()
    start_method, found = find_hardware(args.dry)
    if found['gpu'] is None and not args.dry:
        sys.exit(
            'run.sh: error: there is no CUDA device; --dry runs all parts '
            'with tiny sizes on a CPU'
        )
    if found['gpu'] is None:
        torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, _stop)
    plan = Plan(args, found, start + 60 * args.minutes, start_method)
    try:
        plan.run()
    finally:
        print_table(plan.table())
        print(f'records in {args.out}', flush=True)
    if plan.is_failed:
        sys.exit(1)


if __name__ == '__main__':
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
