"""Plan a pretraining on a set of images; print the config.

    swav plan --folder FOLDER > my_config.py
    swav plan --images 1300 --gpus 1 --memory 24 --classes 10 --hours 2

Each number of the config has a comment with its reason and source. It trains
as it is; `swav train --plan FOLDER` writes and starts it in one go.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

import torch

from swav_plugin.checkpoints.atomic import write_atomic
from swav_plugin.compat.arguments import Parser
from swav_plugin.datasets.survey import survey_images
from swav_plugin.engine.errors import UsageError
from swav_plugin.engine.hooks.skipped_images import MAX_SHARE
from swav_plugin.engine.launch import named_path, pass_on, run_command
from swav_plugin.engine.planner import (
    Plan,
    Situation,
    make_plan,
    write_config,
)
from swav_plugin.engine.processes import (
    count_cores,
    find_launcher,
    start_ranks,
)
from swav_plugin.engine.work_dir import PLAN


def add_plan_arguments(parser: argparse._ActionsContainer) -> None:
    """Add the options that say what is there; `swav train` has them, too."""
    parser.add_argument(
        '--memory',
        type=float,
        metavar='GB',
        help='memory of each GPU, or of the machine for a CPU (default: that '
        'of this machine)',
    )
    parser.add_argument(
        '--classes',
        type=int,
        metavar='C',
        help='about how many classes the images have (default: the class '
        'folders, or unknown)',
    )
    parser.add_argument(
        '--hours',
        type=float,
        metavar='H',
        help='time there is (default: as long as published recipes take)',
    )


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'where', metavar='FOLDER', nargs='?', help='the same as --folder'
    )
    parser.add_argument(
        '--images',
        type=int,
        metavar='N',
        help='images to train on (default: those of the folder)',
    )
    parser.add_argument(
        '--folder',
        metavar='FOLDER',
        help='where the images are: their number, sizes and colors are read',
    )
    parser.add_argument(
        '--gpus',
        type=int,
        metavar='G',
        help='GPUs to train on; 0: the CPU (default: those of this machine)',
    )
    add_plan_arguments(parser)
    return parser.parse_args(argv)


def find_situation(
    args: argparse.Namespace, folder: str | None, num_images: int | None = None
) -> Situation:
    """Gather what is known, from the options, the folder and this machine.

    Raises:
        UsageError: Neither a number of images nor a folder with images.
    """
    cores: int | None = count_cores()
    gpus = torch.cuda.device_count() if args.gpus is None else args.gpus
    if gpus < 0:
        raise UsageError(f'--gpus {gpus}: give 1 or more, or 0 for the CPU')
    memory_gb = args.memory
    if memory_gb is None:
        memory_gb = _memory_of_this_machine(gpus)
    if gpus > torch.cuda.device_count():
        cores = None  # another machine's
    known = dict(gpus=gpus, memory_gb=memory_gb, hours=args.hours, cores=cores)
    if folder is None:
        if num_images is None:
            raise UsageError('give --folder FOLDER or --images N, or both')
        return Situation(
            num_images=num_images, num_classes=args.classes, **known
        )
    path = os.path.abspath(named_path('FOLDER', folder))
    try:
        found = survey_images(path)
    except FileNotFoundError:
        raise UsageError(f'there is no folder {path}') from None
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    looked_at = found.num_opened + found.num_unreadable
    if found.num_unreadable > MAX_SHARE * looked_at:
        raise UsageError(
            f'{path}: {found.num_unreadable} of {looked_at} images that were '
            f'tried cannot be read, and a run stops at {MAX_SHARE:.0%}; '
            'mend or remove them'
        )
    if num_images is not None and num_images != found.num_images:
        raise UsageError(
            f'--images {num_images}: {path} has {found.num_images}; leave '
            '--images out, or --folder for a plan of another set'
        )
    return Situation(
        num_images=found.num_images,
        num_classes=(
            found.num_classes if args.classes is None else args.classes
        ),
        short_edge=found.short_edge,
        mean_pixels=found.mean_pixels,
        is_gray=found.is_gray,
        folder=path,
        **known,
    )


def _memory_of_this_machine(gpus: int) -> float:
    """Return the memory of the smallest GPU, or of the machine, in GB.

    Raises:
        UsageError: There are fewer GPUs here than are planned for.
    """
    if not gpus:
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9
    visible = torch.cuda.device_count()
    if gpus > visible:
        raise UsageError(
            f'--gpus {gpus}: this machine has {visible}; say how much memory '
            'each has with --memory GB, or plan for a CPU with --gpus 0'
        )
    sizes = (
        torch.cuda.get_device_properties(i).total_memory for i in range(gpus)
    )
    return min(sizes) / 1e9


def plan_into_work_dir(args: argparse.Namespace) -> None:
    """Write the plan of `swav train --plan` into the work dir.

    Sets the config and the work dir. A plan that is there, which may have
    been changed by hand, is trained as it is on --resume, and never replaced
    in silence. For several GPUs this process becomes torchrun.

    Raises:
        UsageError: As `find_situation` and `make_plan`; or another plan is
            there, and the run is a new one; or GPUs are missing.
    """
    if args.work_dir is None:
        name = Path(os.path.abspath(args.plan)).name
        args.work_dir = os.path.join('work_dirs', name)
    # Not in the work dir itself: mmengine writes the merged config there, by
    # the same name, without comments.
    path = Path(named_path('--work-dir', args.work_dir), 'plan', PLAN)
    if args.launcher != 'none' or find_launcher() != 'none':
        raise UsageError(
            '--plan starts its processes itself, with --gpus; for several '
            'machines write the plan first (swav plan --gpus G > plan.py) and '
            'train that'
        )
    visible = torch.cuda.device_count()
    if (args.gpus or 0) > visible:
        raise UsageError(
            f'--gpus {args.gpus}: this machine has {visible}; for another '
            'machine print the plan with swav plan'
        )
    situation = find_situation(args, args.plan)
    args.config = str(path)
    if not path.is_file() or args.resume is None:
        plan = make_plan(situation)
        text = write_config(plan)
        if (
            path.is_file()
            and path.read_text('utf-8') != text
            and (not args.overwrite)
        ):
            raise UsageError(
                f'{path} is another plan; go on with --resume, replace it '
                f'with --overwrite, or train it: swav train {path}'
            )
        write_atomic(path, text)
        _warn(plan)
    if situation.gpus > 1:
        start_ranks(situation.gpus, 'train', arguments_of_ranks(args))


def arguments_of_ranks(args: argparse.Namespace) -> list[str]:
    """Return the command line of each process that trains a config."""
    return [
        args.config,
        *pass_on(
            args, 'work_dir', 'resume', 'overwrite', 'pretrained', 'amp',
            'data', 'cfg_options',
        ),
    ]  # fmt: skip


def print_plan(args: argparse.Namespace) -> None:
    """Print the config of a plan."""
    if args.where is not None and args.folder is not None:
        raise UsageError('give FOLDER or --folder FOLDER, not both')
    folder = args.where if args.folder is None else args.folder
    situation = find_situation(args, folder, args.images)
    plan = make_plan(situation)
    print(write_config(plan), end='', flush=True)
    _warn(plan)
    if folder is not None:  # what comes next, and not into a file
        named = shlex.quote(folder)
        print(
            f'swav train --plan {named} trains this. To change it first: '
            f'swav plan {named} > my_config.py, swav train my_config.py',
            file=sys.stderr,
        )


def _warn(plan: Plan) -> None:
    """Say on the screen what should be known before the plan is started."""
    for warning in plan.warnings:
        print(f'{Path(sys.argv[0]).name}: warning: {warning}', file=sys.stderr)


def main() -> None:
    """Plan; a mistake of the user ends in one line."""
    run_command(print_plan, parse_args())


if __name__ == '__main__':
    main()
