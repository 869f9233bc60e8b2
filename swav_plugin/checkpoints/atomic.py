"""Write checkpoints so that an interrupted write never leaves half a file."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


@register_backend('atomic')
class AtomicBackend(LocalBackend):
    """Local files that appear complete or not at all.

    A file is written under ``<name>.tmp`` beside its place, flushed to the
    disk, then renamed. Whenever the process dies, the old file stays as it
    was; a ``.tmp`` it leaves is overwritten by the next write of that name.
    One process writes a name at a time (mmengine's rank 0). Use with
    ``max_keep_ckpts`` of 2 or more: mmengine deletes the oldest checkpoint
    before it writes the newest.

    >>> checkpoint = dict(
    ...     type='CheckpointHook', backend_args=dict(backend='atomic'))
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes, creating the folder if needed."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f'{path.name}.tmp')
        try:
            with open(unfinished, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def put_text(
        self, obj: str, filepath: str | Path, encoding: str = 'utf-8'
    ) -> None:
        """Write text, creating the folder if needed."""
        self.put(obj.encode(encoding), filepath)
