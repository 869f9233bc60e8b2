"""Read checkpoints without running code that somebody put into them.

A checkpoint is a pickle, and a pickle may name any function to be called.
`loaders` makes mmengine read this way.
"""

import os
import pickle
import re
import textwrap
import threading
from pathlib import Path
from typing import IO, Any

import torch

from .digests import find_change
from .file_kind import (
    NOT_TORCH,
    CheckpointError,
    describe_other,
    find_container,
    find_damage,
    has_checksums,
)
from .leave_out import WeightsUnpickler, report_left_out
from .rebuild import REBUILT, make_rebuilt
from .training_state import check_storage

OVERRIDE = 'SWAV_ALLOW_UNSAFE_CHECKPOINTS'

# Before 2.6, torch cannot allow an object under a name that is not its own.
_TORCH_ALLOWS_NAMES = torch.__version__ >= '2.6'
# torch's list of allowed names is one for the process.
_ALLOWING = threading.Lock()


class UnknownObject(CheckpointError):
    """A file that wants a function or class that weights do not need."""


class _StrictUnpickler(pickle.Unpickler):
    """Refuses every global that is neither torch's nor ours."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up an allowed global."""
        allowed = _allowed()
        # torch.save writes Python 2's names.
        full_name = f'{module}.{name}'.replace('__builtin__', 'builtins')
        if full_name not in allowed:
            raise pickle.UnpicklingError(f'GLOBAL {full_name}')
        return allowed[full_name]


class _PickleModule:
    """A `pickle_module` for torch that reads with one kind of unpickler."""

    __name__ = 'pickle'  # torch asks for it

    def __init__(self, unpickler: type) -> None:
        self.Unpickler = unpickler

    def load(self, file: Any, **kwargs: Any) -> Any:
        """Read one object, as `pickle.load`."""
        return self.Unpickler(file, **kwargs).load()


def _allowed() -> dict[str, Any]:
    """Return torch's functions for tensors and ours for the rest, by name."""
    from torch._weights_only_unpickler import _get_allowed_globals

    return {**_get_allowed_globals(), **REBUILT}


def safe_load(file: Any, map_location: Any = None) -> Any:
    """Read weights or a training state that `torch.save` wrote.

    Checksums are compared: 0.2 s for 300 MB, and 0.25 s for the SHA-256 that
    `CheckpointHook` noted. With the environment variable
    SWAV_ALLOW_UNSAFE_CHECKPOINTS=1 a file may run any code: use it for files
    whose origin you trust.

    Args:
        file: Path or binary file.
        map_location: As for `torch.load`.

    Raises:
        CheckpointError: One line. It is another kind of file; or it is cut
            off or damaged.
        UnknownObject: It wants a function or class that weights do not need,
            which the message names.
    """
    if not hasattr(file, 'read'):
        with open(file, 'rb') as opened:
            _check_digest(opened)
            return safe_load(opened, map_location)
    _check_bytes(file)
    try:
        if os.environ.get(OVERRIDE) == '1':
            return torch.load(file, map_location, weights_only=False)
        loaded = make_rebuilt(_load(file, map_location))
        check_storage(loaded, _name(file))
        return loaded
    except CheckpointError:
        raise
    except (OSError, MemoryError, torch.cuda.OutOfMemoryError):
        raise  # not the fault of the file
    except Exception as error:  # whatever damaged bytes lead to
        raise _translate(error, file) from error


def load_weights(file: IO[bytes]) -> Any:
    """Read what `torch.save` wrote, and leave out unknown objects in it.

    Use it for weights alone: a training state is not complete without them.

    Args:
        file: Open for reading, at its start.

    Raises:
        CheckpointError: As `safe_load`.
        UnknownObject: It wants a function of Python, such as os.system.
    """
    _check_digest(file)
    try:
        return safe_load(file, 'cpu')
    except UnknownObject:
        file.seek(0)

    class Unpickler(WeightsUnpickler):
        left_out: set[str] = set()

        def allowed(self) -> dict[str, Any]:
            return _allowed()

    try:
        module = _PickleModule(Unpickler)
        loaded = torch.load(file, 'cpu', module, weights_only=False)
        loaded = make_rebuilt(loaded)
        check_storage(loaded, _name(file))
    except (CheckpointError, OSError):
        raise
    except Exception as error:
        raise _translate(error, file) from error
    report_left_out(_name(file), Unpickler.left_out)
    return loaded


def check_bytes(path: Path) -> None:
    """Check that a file is a checkpoint, and whole.

    Its content is read only if it has no checksums, in torch's old format.

    Raises:
        CheckpointError: As `safe_load`.
    """
    with open(path, 'rb') as file:
        _check_digest(file)
        _check_bytes(file)
        if not has_checksums(file):
            safe_load(file, 'cpu')


def _check_bytes(file: Any) -> None:
    """Check what can be checked before a file is read."""
    what = describe_other(file) or NOT_TORCH.get(find_container(file))
    if what is not None:
        raise CheckpointError(f'{_name(file)} is not a checkpoint but {what}.')
    damage = find_damage(file)
    if damage is not None:
        raise _damaged(file, damage)


def _check_digest(file: Any) -> None:
    """Compare a file of ours with what was noted when it was saved."""
    change = find_change(Path(file.name))
    if change is not None:
        raise _damaged(file, change)


def _translate(error: Exception, file: Any) -> Exception:
    """Return the error to raise for what torch's reader raised."""
    if 'CUDA' in str(error):
        return error
    wanted = re.findall(r'GLOBAL ([\w.]+)', str(error))
    if not wanted or not isinstance(error, pickle.UnpicklingError):
        return _unreadable(file, str(error) or repr(error))
    return UnknownObject(
        f'{_name(file)} was not loaded: it wants {wanted[0]}. Weights and '
        'training states need nothing of the kind, and loading it may run '
        'any code. If you trust the file, set the environment variable '
        f'{OVERRIDE}=1.'
    )


def _damaged(file: Any, reason: str) -> CheckpointError:
    reason = textwrap.shorten(reason, 150).rstrip('.')
    return CheckpointError(
        f'{_name(file)} cannot be read: it is cut off or damaged ({reason}); '
        'copy or download it again.'
    )


def _unreadable(file: Any, reason: str) -> CheckpointError:
    """Make the error for bytes that torch makes nothing of."""
    # Its advice and links are about other files.
    found = re.search(r'WeightsUnpickler error:\s*(.+)', reason)
    reason = found[1] if found else reason
    file.seek(0)
    if not has_checksums(file):
        return _damaged(file, reason)
    reason = textwrap.shorten(reason, 150).rstrip('.')
    return CheckpointError(
        f'{_name(file)} cannot be read: the file is intact but contains '
        f'objects that weights do not need ({reason}); write its tensors '
        'again with torch.save.'
    )


def _name(file: Any) -> str:
    return str(getattr(file, 'name', file))


def _load(file: Any, map_location: Any) -> Any:
    """Read a file that may ask for tensors, plain values and `REBUILT`."""
    if not _TORCH_ALLOWS_NAMES:
        module = _PickleModule(_StrictUnpickler)
        return torch.load(file, map_location, module, weights_only=False)
    with _ALLOWING:
        try:
            return torch.load(file, map_location, weights_only=True)
        except pickle.UnpicklingError as error:
            wanted = re.findall(r'GLOBAL ([\w.]+)', str(error))
            if not any(name.endswith(tuple(wanted)) for name in REBUILT):
                raise
        # mmengine's own file. Meanwhile other threads may get our stand-ins
        # under these names, never the real functions.
        file.seek(0)
        names: list[Any] = [(value, name) for name, value in REBUILT.items()]
        with torch.serialization.safe_globals(names):
            return torch.load(file, map_location, weights_only=True)
