"""Kill a run at random moments, resume it, and compare with one in one go.

    python -m tests.test_faults.kill_trials --ranks 2 --tries 20

Each try is a run of 60 iterations with queue, AMP and accumulation that is
killed with SIGKILL once, at a random moment after its first iteration, and
resumed. With several ranks every other try kills only one of them, and the
others have to end by themselves. Weights, queue, momenta and losses must be
those of a run in one go, bit for bit.
"""

import argparse
import random
import re
import signal
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from .ranks import Ranks
from .recipe import (
    differences,
    draw_images,
    final_state,
    losses,
    write_config,
)

NUM_EPOCHS, BATCH_SIZE = 12, 8
ITERATION = 'Epoch(train)'


def run_trials(
    num_ranks: int, num_tries: int, folder: Path, epochs: int = NUM_EPOCHS
) -> int:
    """Print a line for each try; return how many were identical."""
    images = draw_images(folder / 'images')
    batch = f'train_dataloader["batch_size"] = {BATCH_SIZE // num_ranks}\n'
    config = write_config(folder / 'config.py', images, batch, epochs)

    def start(name: str, *argv: str) -> Ranks:
        work_dir = str(folder / name)
        return Ranks(
            num_ranks,
            folder / f'{name}-said',
            config,
            '--work-dir',
            work_dir,
            *argv,
        )

    whole = start('whole')
    whole.wait_for(ITERATION)
    begin = time.monotonic()
    assert whole.wait() == [0] * num_ranks, whole.said()
    num_iters = 5 * epochs
    step_s = (time.monotonic() - begin) / num_iters
    expected, trace = final_state(folder / 'whole'), losses(folder / 'whole')
    assert [*trace] == [*range(1, num_iters + 1)]
    num_same = 0
    for number in range(num_tries):
        draw = random.Random(number)
        # Saves of every iteration, or of every seventh: then some are lost.
        options = (
            '--cfg-options',
            f'default_hooks.checkpoint.interval_iters={(1, 7)[number % 2]}',
        )
        name = f'try{number}'
        killed = start(name, *options)
        killed.wait_for(ITERATION, draw.randrange(1, num_iters))
        time.sleep(draw.uniform(0, step_s))
        victims = [] if number % 4 < 2 else [draw.randrange(num_ranks)]
        killed.send(signal.SIGKILL, *victims)
        codes = killed.wait(60)
        done = max(losses(folder / name))
        resumed = start(name, '--resume', *options)
        resumed_codes = resumed.wait()
        start_of = re.findall(r'continuing from \S*?(\w+.pth)', resumed.said())
        wrong = differences(final_state(folder / name), expected)
        is_same = not wrong and losses(folder / name) == trace
        num_same += is_same and resumed_codes == [0] * num_ranks
        print(
            f'{number:2}: codes {codes} after iteration {done}, from '
            f'{start_of}, codes {resumed_codes}: '
            f'{"identical" if is_same else wrong or "other losses"}',
            flush=True,
        )
    print(f'{num_same} of {num_tries} identical on {num_ranks} ranks')
    return num_same


def main() -> None:
    """Run the trials; exit code 1 if one was not identical."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--ranks', type=int, choices=(1, 2, 4), default=1)
    parser.add_argument('--tries', type=int, default=20)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        num_same = run_trials(args.ranks, args.tries, Path(folder))
    sys.exit(num_same < args.tries)


if __name__ == '__main__':
    main()
