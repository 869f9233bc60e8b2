"""Datasets of the suite: where they are, and which of them can be used."""

from pathlib import Path

import pytest

from swav_plugin.engine.errors import UsageError
from swav_plugin.suite.data import (
    DatasetFolder,
    FoundDataset,
    find_datasets,
    parse_paths,
    voc0712_lists,
)

IMAGENET = DatasetFolder('imagenet', 'imagenet')
ONE_PERCENT = DatasetFolder('imagenet_1percent', 'imagenet')
KNOWN = {each.name: each for each in (IMAGENET, ONE_PERCENT)}


def test_paths_are_read_by_name(tmp_path: Path) -> None:
    options = [f'imagenet={tmp_path}', f'imagenet={tmp_path}']
    assert parse_paths(options, KNOWN) == dict(imagenet=tmp_path)


@pytest.mark.parametrize(
    'options, message',
    [
        (['imagnet=.'], "one of the names imagenet, .* got 'imagnet=.'"),
        (['imagenet='], "got 'imagenet='"),
        (['imagenet'], "got 'imagenet'"),
        (['imagenet=nowhere'], 'no such folder, /.*/nowhere'),
        (['imagenet=.', 'imagenet=..'], 'names imagenet twice, . and ..;'),
    ],
)
def test_paths_that_lead_nowhere(options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_paths(options, KNOWN)


def test_where_sets_are_looked_for(tmp_path: Path) -> None:
    """Below the root, or where an option says: by name, else by folder."""

    def roots(paths: dict[str, Path]) -> list[Path]:
        found = find_datasets(KNOWN.values(), tmp_path, paths)
        assert all('there is no folder' in f.problem for f in found.values())
        return [found[name].root for name in KNOWN]

    here, other = tmp_path / 'imagenet', Path('/nowhere')
    assert roots({}) == [here, here]
    assert roots(dict(imagenet=other)) == [other, other]
    assert roots(dict(imagenet_1percent=other)) == [here, other]


@pytest.mark.parametrize(
    'present, train, test',
    [
        # As published.
        (
            ['2007/trainval', '2012/trainval', '2007/test', '2007/train'],
            ['2007/trainval', '2012/trainval'],
            ['2007/test'],
        ),
        # VOC2007's test set is not there.
        (
            ['2007/trainval', '2012/train', '2012/val'],
            ['2012/train'],
            ['2012/val'],
        ),
        ([], [], []),
    ],
)
def test_lists_of_voc0712(
    tmp_path: Path, present: list[str], train: list[str], test: list[str]
) -> None:
    def path(name: str) -> str:
        year, _, kind = name.partition('/')
        return f'VOC{year}/ImageSets/Main/{kind}.txt'

    for name in present:
        file = tmp_path / path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert voc0712_lists(tmp_path) == (
        [*map(path, train)],
        [*map(path, test)],
    )


def test_a_report_names_the_folder() -> None:
    found = FoundDataset(IMAGENET, Path('/data/mine/.'), None)
    assert found.title == 'mine'
