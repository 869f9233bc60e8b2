"""--data: what a config reads, and in which folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mmengine.config import Config

from swav_plugin.commands import test, train
from swav_plugin.engine.errors import UsageError

IMAGENET = 'swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96'
IMAGENETTE = 'swav_resnet18_1xb256-mcrop-2-6-coslr-200e_imagenette-128-64'
LINEAR = 'resnet50_linear-8xb32-coslr-100e_in1k'
PERCENT = 'resnet50_head1_4xb64-steplr1e-1-20e_in1k-1pct'
PLACES = 'resnet50_mhead_8xb32-steplr-28e_places205'


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., str]:
    """Return a function that makes a folder with files in it."""

    def make(*files: str) -> str:
        root = tmp_path / 'mine'
        root.mkdir()
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()
        return str(root)

    return make


def trained(*argv: str) -> tuple[Config, list[str]]:
    return train.build_config(train.parse_args([*argv]))


def measured(*argv: str) -> Config:
    return test.build_config(test.parse_args([*argv]))[0]


def roots(cfg: Config) -> list[str | None]:
    """The folders of training, validation, and the bank of kNN."""
    val, loop = cfg.get('val_dataloader'), cfg.get('val_cfg') or {}
    return [
        cfg.train_dataloader.dataset.data_root,
        val and val.dataset.data_root,
        'bank_dataloader' in loop and loop.bank_dataloader.dataset.data_root,
    ]


@pytest.mark.parametrize('files', [('a.jpg',), ('train/a.jpg', 'car/b.jpg')])
def test_images_are_enough_for_pretraining(
    files: tuple[str, ...], folder: Callable[..., str]
) -> None:
    """Also where 'train' is a class, of vehicles."""
    root = folder(*files)
    cfg, notes = trained(IMAGENET, '--data', root)
    assert cfg.train_dataloader.dataset.data_root == root
    assert not [note for note in notes if '--data' in note]
    # This recipe validates on Imagenette, whose classes these are not.
    cfg, notes = trained(IMAGENETTE, '--data', root)
    assert cfg.train_dataloader.dataset.data_root == root
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    assert [note for note in notes if 'no validation' in note]


def test_a_dataset_moves_as_a_whole(folder: Callable[..., str]) -> None:
    root = folder('train/a/1.jpg', 'val/a/1.jpg')
    cfg, _ = trained(IMAGENETTE, '--data', root)
    assert roots(cfg) == [f'{root}/train', f'{root}/val', f'{root}/train']
    cfg, _ = trained(IMAGENET, '--data', root)
    assert cfg.train_dataloader.dataset.data_root == f'{root}/train'
    cfg, _ = trained(LINEAR, '--data', root)
    assert roots(cfg) == [f'{root}/train', f'{root}/val', False]
    assert cfg.val_dataloader.dataset.ann_file == ''
    knn = measured('knn_imagenet', 'random', '--data', root)
    assert knn.test_dataloader.dataset.data_root == f'{root}/val'
    bank = knn.test_cfg.bank_dataloader.dataset
    assert bank.data_root == f'{root}/train'


def test_lists_of_a_dataset(folder: Callable[..., str]) -> None:
    root = folder('train/a/1.jpg', 'val/1.jpg', 'meta/val.txt')
    with pytest.raises(UsageError, match='mine/meta/train_1percent.txt, whi'):
        trained(PERCENT, '--data', root)
    Path(root, 'meta/train_1percent.txt').touch()
    cfg, _ = trained(PERCENT, '--data', root)
    assert (
        cfg.train_dataloader.dataset.ann_file == '../meta/train_1percent.txt'
    )
    # A flat val has its labels in a list.
    assert cfg.val_dataloader.dataset.ann_file == '../meta/val.txt'
    Path(root, 'meta/train.txt').touch()
    cfg, _ = trained(PLACES, '--data', root)
    assert roots(cfg) == [root, root, False]


def test_options_have_the_last_word(folder: Callable[..., str]) -> None:
    root = folder('a.jpg')
    option = 'train_dataloader.dataset.data_root=elsewhere'
    cfg, _ = trained(IMAGENET, '--data', root, '--cfg-options', option)
    assert cfg.train_dataloader.dataset.data_root == 'elsewhere'


@pytest.mark.parametrize(
    ('more', 'expected'),
    [
        (
            "train_dataloader = dict(dataset=dict(data_root=['a', 'b']))",
            ['{root}', 'data/imagenette2-160/val'],
        ),
        (
            "train_dataloader = dict(dataset=dict(data_root='/a/images'))",
            ['{root}', 'data/imagenette2-160/val'],
        ),
    ],
)
def test_a_config_of_ones_own(
    more: str, expected: list[str], tmp_path: Path, folder: Callable[..., str]
) -> None:
    """Validation on another dataset stays, as it does with --cfg-options."""
    root = folder('a.jpg')
    config = tmp_path / 'mine.py'
    config.write_text(
        f"_base_ = 'swav_plugin::selfsup/swav/{IMAGENETTE}.py'\n{more}\n"
    )
    cfg, _ = trained(str(config), '--data', root)
    assert roots(cfg)[:2] == [each.format(root=root) for each in expected]


def test_mistakes_are_one_line(
    tmp_path: Path, folder: Callable[..., str]
) -> None:
    root = folder('a/1.jpg')
    config = tmp_path / 'two.py'
    config.write_text(
        f"_base_ = 'swav_plugin::selfsup/swav/{IMAGENET}.py'\n"
        "sets = [dict(type='ImageFolder', data_root=r) for r in ('a', 'b')]\n"
        'train_dataloader = dict(dataset=dict('
        "_delete_=True, type='ConcatDataset', datasets=sets))\n"
    )
    for argv, message in (
        ((IMAGENET, '--data', 'no_such'), 'no_such does not exist'),
        ((IMAGENET, '--data', __file__), 'is not a folder'),
        ((IMAGENET, '--data', ''), '--data is empty'),
        ((LINEAR, '--data', root), 'reads train and val of a dataset, which'),
        ((str(config), '--data', root), 'two trains on 2 folders'),
    ):
        with pytest.raises(UsageError, match=message) as found:
            trained(*argv)
        assert '\n' not in str(found.value)
    with pytest.raises(UsageError, match='test_dataloader.dataset.data_root='):
        measured('knn_imagenet', 'random', '--data', root)


def test_a_plan_has_its_images(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.parse_args(['--plan', 'a', '--data', 'b'])
    assert 'without --data' in capsys.readouterr().err
