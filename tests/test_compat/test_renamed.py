"""Arguments work by their old names, which warn."""

import inspect
import warnings

import pytest

from swav_plugin.compat.renamed import renamed_arguments


class Crop:
    """Something with a renamed argument."""

    @renamed_arguments(scale='size')
    def __init__(self, size: int, ratio: float = 1.0) -> None:
        """Document."""
        self.size, self.ratio = size, ratio


def test_old_name_warns_and_wins() -> None:
    with pytest.warns(
        DeprecationWarning, match=r'Crop\(scale=...\) is now siz'
    ):
        assert vars(Crop(scale=3)) == dict(size=3, ratio=1.0)
    with pytest.warns(DeprecationWarning) as caught:
        assert vars(Crop(size=5, scale=3, ratio=2.0)) == dict(
            size=3, ratio=2.0
        )
    assert caught[0].filename == __file__


def test_new_name_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert Crop(3).size == Crop(size=3).size == 3
    with pytest.raises(TypeError, match='size'):
        Crop()
    assert list(inspect.signature(Crop).parameters) == ['size', 'ratio']
    assert Crop.__init__.__doc__ == 'Document.'
