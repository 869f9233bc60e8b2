"""Show how far a long run is: images, images per second, time left."""

import datetime
import sys
import time
from typing import IO

_LOG_EVERY_S = 30.0  # where lines cannot be updated, as in a log file
_UPDATE_EVERY_S = 0.2  # on a terminal


class Progress:
    """One updating line on a terminal, a line now and then in a log.

    Args:
        total: Images of the whole run.
        is_silent: Show nothing.
        file: Where to write; by default standard error.
    """

    def __init__(
        self,
        total: int,
        is_silent: bool = False,
        file: IO[str] | None = None,
    ) -> None:
        self.total = total
        self.done = self._found = 0
        self._line_of = -1  # images done when the last line was written
        self._is_silent = is_silent
        self._file = sys.stderr if file is None else file
        self._is_terminal = self._file.isatty()
        self._begin = self._shown = time.monotonic()

    def skip(self, count: int) -> None:
        """Count images that an earlier run has done."""
        self.done += count
        self._found += count

    def advance(self, count: int) -> None:
        """Count images that are done."""
        self.done += count
        every = _UPDATE_EVERY_S if self._is_terminal else _LOG_EVERY_S
        if not self._is_silent and time.monotonic() - self._shown >= every:
            self._show()

    def close(self) -> None:
        """Show the last state, unless it is shown already."""
        if self._is_silent:
            return
        if self._line_of != self.done:
            self._show()
        if self._is_terminal:
            print(file=self._file, flush=True)

    def _show(self) -> None:
        """Write the line."""
        self._shown = time.monotonic()
        self._line_of = self.done
        line = self.describe(self._shown - self._begin)
        if self._is_terminal:
            # Back to the start of the line, and erase what is longer.
            print(f'\r{line}\x1b[K', end='', file=self._file, flush=True)
        else:
            print(line, file=self._file, flush=True)

    def describe(self, seconds: float) -> str:
        """Say how far the run is after so many seconds.

        >>> progress = Progress(2000, is_silent=True)
        >>> progress.skip(500)
        >>> progress.advance(300)
        >>> progress.describe(10)
        '800 of 2,000 images, 30 images/s, 0:00:40 left'
        """
        text = f'{self.done:,} of {self.total:,} images'
        rate = (self.done - self._found) / max(seconds, 1e-9)
        if rate > 0:
            text += f', {rate:{",.0f" if rate >= 10 else ".2g"}} images/s'
            if self.done < self.total:
                left = round((self.total - self.done) / rate)
                text += f', {datetime.timedelta(seconds=left)} left'
        return text
