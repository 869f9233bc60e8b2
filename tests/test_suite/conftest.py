"""Data, weights and a stand-in for the tools."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swav_plugin.commands import suite as command
from swav_plugin.datasets.voc07 import CLASSES
from swav_plugin.models import ResNetWithStem
from swav_plugin.suite import measure


def write_images(root: Path, classes: str, count: int, side: int = 64) -> None:
    """Coarse noise, in folders of one letter each."""
    for split in ('train', 'val'):
        for number in range(count):
            rng = np.random.default_rng([number, split == 'val'])
            coarse = rng.integers(256, size=(5, 5, 3), dtype=np.uint8)
            folder = root / split / classes[number % len(classes)]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(coarse).resize((side, side)).save(
                folder / f'{number}.png'
            )


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 + 36 images of three classes, and VOC lists without a test split."""
    root = tmp_path_factory.mktemp('data')
    write_images(root / 'imagenet', 'abc', 36)
    voc = root / 'VOCdevkit/VOC2007'
    (voc / 'ImageSets/Main').mkdir(parents=True)
    (voc / 'JPEGImages').mkdir()
    for split in ('train', 'val'):
        names = [f'{split}{i}' for i in range(84)]
        for name in names:
            image = Image.new('RGB', (32, 32), (len(name), 9, 99))
            image.save(voc / f'JPEGImages/{name}.jpg')
        for c, class_name in enumerate(CLASSES):
            lines = [
                f'{name} {1 if i % 20 == c else -1}'
                for i, name in enumerate(names)
            ]
            (voc / f'ImageSets/Main/{class_name}_{split}.txt').write_text(
                '\n'.join(lines)
            )
    return root


@pytest.fixture(scope='module')
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow ResNet-18 in upstream's layout."""
    torch.manual_seed(1)
    backbone = ResNetWithStem(18, stem_channels=8, base_channels=8)
    path = tmp_path_factory.mktemp('work') / 'epoch_3.pth'
    torch.save(
        {
            f'module.{key}': value
            for key, value in backbone.state_dict().items()
        },
        path,
    )
    return path


class Fake:
    """Stands in for the tools: notes commands, writes a number for each."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.silent: list[str] = []  # tools that write no results
        self.failing: list[str] = []  # parts of folders of runs that fail

    def __call__(self, command: list[str], log: Path) -> str | None:
        self.commands.append(command)
        tool = next(word for word in command if word.endswith('.py'))
        if any(part in str(log.parent) for part in self.failing):
            return 'exit status 1'
        if Path(tool).name not in self.silent:
            folder = log.parent / str(len(self.commands))
            folder.mkdir()
            Path(folder, 'results.json').write_text(
                json.dumps(
                    [
                        dict(
                            name='avgpool/knn10_top1',
                            value=float(len(self.commands)),
                            protocol='fake',
                            fields=dict(feature='avgpool', k=10, top=1),
                        )
                    ]
                )
            )
            (folder / 'pictures').mkdir()
            (folder / 'pictures/1.jpg').touch()
        return None

    def names(self) -> list[str]:
        """Benchmark and tool of each command."""
        return [
            f'{Path(word).parent.name.rpartition("-")[0]} '
            f'{Path(command[i - 1]).name}'
            for command in self.commands
            for i, word in enumerate(command)
            if word.endswith('config.py')
        ]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Replace what starts the tools."""
    fake = Fake()
    monkeypatch.setattr(measure, 'execute', fake)
    return fake


@pytest.fixture
def run(
    data: Path, weights: Path, tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """Run the suite; give what it wrote."""

    def run_suite(*arguments: str, failed: int = 0) -> dict[str, Any]:
        args = command.parse_args(
            [
                str(weights),
                '--root',
                str(data),
                '--out',
                str(tmp_path / 'out'),
                *arguments,
            ]
        )
        assert command.run(args) == failed
        return json.loads((tmp_path / 'out/results.json').read_text())

    return run_suite


def statuses(written: dict[str, Any]) -> dict[str, str]:
    return {
        f'{entry["benchmark"]} {entry["subject"]}': entry['status']
        for entry in written['entries']
    }
