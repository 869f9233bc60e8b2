"""get_model and extract_features against torchvision, and their errors."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import torchvision.transforms as T
from mmengine.config import Config
from mmengine.dataset import Compose
from mmpretrain.models import ResNet
from PIL import Image
from torch import nn

from swav_plugin.apis import extract_features, get_model, list_models
from swav_plugin.checkpoints import Checkpoint, zoo
from swav_plugin.models import SwAV
from swav_plugin.registry import MODELS, build_transforms
from tests.conftest import REPO_ROOT

NAME = 'swav_resnet50_64xb64-mcrop-2-6-coslr-800e_in1k-224-96'
KNN = REPO_ROOT / 'configs/benchmarks/classification/knn_imagenet.py'
MEAN, STD = (0.485, 0.456, 0.406), (0.228, 0.224, 0.225)


def random_resnet(depth: int = 18) -> nn.Module:
    """torchvision's ResNet with statistics that a trained one might have."""
    torch.manual_seed(0)
    model = getattr(torchvision.models, f'resnet{depth}')()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    # Keeps features near 1, as training does: float32 then holds 1e-5.
    for name, module in model.named_modules():
        if re.search(r'layer\d\.\d\.bn\d$', name):
            nn.init.constant_(module.weight, 0.5)
    return model.eval()


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'resnet18.pth'
    torch.save(random_resnet().state_dict(), path)
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of different sizes, two of them in a class folder."""
    folder = tmp_path_factory.mktemp('images')
    (folder / 'a').mkdir()
    rng = np.random.default_rng(0)
    for name, size in {
        'a/2.png': (40, 60),
        'a/1.png': (70, 50),
        'b.png': (48, 48),
        'c.png': (33, 90),
    }.items():
        pixels = rng.integers(256, size=(*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.mark.parametrize('depth', [18, 50])
def test_features_equal_torchvisions(
    depth: int, test_data: Path, tmp_path: Path
) -> None:
    # Some of these photographs are grayscale.
    files = sorted((test_data / 'photos').glob('*.JPEG'))[::20]
    files += [
        file
        for file in sorted((test_data / 'photos').glob('*.JPEG'))
        if Image.open(file).mode == 'L'
    ][:2]
    theirs = random_resnet(depth)
    weights = {f'module.{k}': v for k, v in theirs.state_dict().items()}
    torch.save(weights, tmp_path / 'swav.pth.tar')
    theirs.fc = nn.Identity()
    transform = T.Compose(
        [
            T.Resize(256),
            T.CenterCrop(224),
            T.ToTensor(),
            T.Normalize(MEAN, STD),
        ]
    )
    images = [transform(Image.open(file).convert('RGB')) for file in files]
    with torch.no_grad():
        expected = theirs(torch.stack(images))

    model = get_model(tmp_path / 'swav.pth.tar', 'cpu')
    features, names = extract_features(model, files, batch_size=5)

    assert names == [str(file) for file in files]
    assert features.dtype == torch.float32
    assert features.shape == (len(files), 512 if depth == 18 else 2048)
    assert expected.std(0).mean() > 1e-3  # images can be told apart
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


def test_images_are_prepared_as_for_knn(test_data: Path) -> None:
    """The kNN benchmark and the API must not drift apart."""
    file = next((test_data / 'photos').glob('*.JPEG'))
    config = Config.fromfile(KNN)
    pipeline = build_transforms(config.test_dataloader.dataset.pipeline)
    expected = Compose(pipeline)(dict(img_path=str(file)))['inputs']
    model = Recorder()
    extract_features(model, file)
    assert torch.equal(model.images, expected[None])


class Recorder(nn.Module):
    """A model that keeps the images it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Flatten()
        self.eval()

    def data_preprocessor(self, data: dict) -> dict:
        self.images = data['inputs']
        return dict(inputs=data['inputs'].float())


def test_images_are_normalized_as_for_knn(checkpoint: Path) -> None:
    expected = Config.fromfile(KNN).model.data_preprocessor
    preprocessor = get_model(checkpoint, 'cpu').data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx(expected.mean)
    assert preprocessor.std.flatten().tolist() == pytest.approx(expected.std)


def test_depth_and_width_come_from_the_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    wide = ResNet(34, base_channels=24, stem_channels=16)
    weights = {f'backbone.{k}': v for k, v in wide.state_dict().items()}
    weights['head.prototypes.0.weight'] = torch.zeros(5, 4)
    torch.save(dict(state_dict=weights), tmp_path / 'epoch_1.pth')
    wide.eval()  # returns None
    model = get_model(tmp_path / 'epoch_1.pth', 'cpu')
    assert not any(module.training for module in model.modules())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        outputs = model.backbone(images)
        expected = wide(images)
    assert outputs[-1].shape == (2, 8 * 24, 2, 2)
    assert torch.equal(outputs[-1], expected[-1])


def test_zoo_names_and_urls(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(url: str, **kwargs: object) -> Path:
        asked.append(url)
        return checkpoint

    monkeypatch.setattr(zoo, 'download', download)
    monkeypatch.setattr(zoo, '_check_holds', lambda *_: None)
    get_model(NAME, 'cpu')
    get_model('https://example.org/swav.pth', 'cpu')
    assert asked == [
        zoo.zoo_models()[NAME].url,
        'https://example.org/swav.pth',
    ]


def test_all_sources_give_the_same_features(
    checkpoint: Path, folder: Path
) -> None:
    model = get_model(checkpoint, 'cpu')
    expected, files = extract_features(model, folder, size=32)
    names = ['a/1.png', 'a/2.png', 'b.png', 'c.png']
    assert files == [str(folder / name) for name in names]
    assert (torch.cdist(expected, expected) + torch.eye(4) > 1e-3).all()
    opened = [Image.open(file) for file in files]
    arrays = [np.array(image) for image in opened]
    for images, expected_files in (
        (files, files),
        ([Path(file) for file in files], files),
        (opened, [''] * 4),
        (arrays, [''] * 4),
        (
            [files[0], opened[1], arrays[2], files[3]],
            [files[0], '', '', files[3]],
        ),
    ):
        features, found = extract_features(
            model, images, size=32, batch_size=3
        )
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
        assert found == expected_files
    for image in (files[1], opened[1], arrays[1]):
        features, _ = extract_features(model, image, size=32)
        torch.testing.assert_close(features, expected[1:2], rtol=0, atol=1e-5)
    features, found = extract_features(model, folder, size=32, num_workers=1)
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)
    assert found == files


def test_16_bit_images_keep_their_contrast(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Pillow's convert('RGB') would turn nearly all of it white."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(2**16, size=(40, 40), dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / '16.png')
    as_8_bit = np.repeat((pixels >> 8).astype(np.uint8)[..., None], 3, 2)
    model = get_model(checkpoint, 'cpu')
    (file, opened, array), _ = extract_features(
        model,
        [tmp_path / '16.png', Image.open(tmp_path / '16.png'), as_8_bit],
        size=32,
    )
    assert torch.equal(file, array) and torch.equal(opened, array)


def test_swav_models_are_taken(folder: Path) -> None:
    torch.manual_seed(0)
    model: SwAV = MODELS.build(
        dict(
            type='SwAV',
            data_preprocessor=dict(
                type='MultiViewPreprocessor', mean=[99.0] * 3, std=[58.0] * 3
            ),
            backbone=dict(
                type='ResNet_CIFAR',
                depth=18,
                num_stages=3,
                out_indices=(2,),
                strides=(1, 2, 2),
                dilations=(1, 1, 1),
                base_channels=8,
                stem_channels=8,
            ),
            neck=dict(type='SwAVNeck', in_channels=32, hid_channels=8),
            head=dict(type='SwAVHead', num_prototypes=5),
        )
    )
    with pytest.raises(ValueError, match='call model.eval.. first'):
        extract_features(model, folder)
    image = np.random.default_rng(0).integers(256, size=(36, 36, 3))
    image = image.astype(np.uint8)
    features, _ = extract_features(model.eval(), image, size=32)
    recorder = Recorder()
    extract_features(recorder, image, size=32)
    inputs = model.data_preprocessor(dict(inputs=recorder.images))['inputs']
    with torch.no_grad():
        expected = model(inputs, mode='tensor')
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-5)


def test_features_can_be_trained_on(checkpoint: Path, folder: Path) -> None:
    """Inference tensors could not be."""
    model = get_model(checkpoint, 'cpu')
    features, _ = extract_features(model, folder, size=32)
    linear = nn.Linear(512, 2)
    linear(features).sum().backward()
    assert linear.weight.grad is not None


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        (
            'vit',
            'not the weights of a ResNet.*Only ResNets are built',
        ),
        ('stem', r'kernel of \(5, 5\); the stem of ImageNet has 7x7'),
        ('cut', '1 tensors are not in the file.*Only ResNets are built'),
        ('text', 'holds no weights'),
    ],
)
def test_other_checkpoints_are_refused(
    kind: str, message: str, tmp_path: Path
) -> None:
    small = dict(base_channels=8, stem_channels=8)
    if kind == 'vit':
        weights = {'backbone.patch_embed.projection.weight': torch.zeros(1)}
    elif kind == 'stem':
        weights = ResNet(18, **small).state_dict()
        weights['conv1.weight'] = torch.zeros(8, 3, 5, 5)
    elif kind == 'cut':
        weights = ResNet(18, **small).state_dict()
        del weights['layer2.0.conv2.weight']
    else:
        weights = {'state_dict': 'weights'}
    torch.save(weights, tmp_path / 'w.pth')
    with pytest.raises(ValueError, match=message) as error:
        get_model(tmp_path / 'w.pth')
    assert str(tmp_path / 'w.pth') in str(error.value)


def test_models_are_listed() -> None:
    names = list_models('swav_resnet50_*_vissl')
    assert len(names) == 7
    assert names[0].startswith('swav_resnet50_64xb64-mcrop-2-6-coslr-100e')
    assert {*names} < {*list_models()} < {*list_models(pretrained=False)}


CONFIG = """
model = dict(
    type='SwAV',
    data_preprocessor=dict(
        type='MultiViewPreprocessor', mean=[99.0] * 3, std=[58.0] * 3
    ),
    backbone=dict(
        type='ResNet',
        depth=18,
        num_stages=3,
        out_indices=(2,),
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        base_channels=8,
        stem_channels=8,
    ),
    neck=dict(type='SwAVNeck', in_channels=32, hid_channels=8),
    head=dict(type='SwAVHead', num_prototypes=5),
)
"""


def test_models_of_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'mine.py').write_text(CONFIG)
    config, weights = str(tmp_path / 'mine.py'), str(tmp_path / 'w.pth')
    first = get_model(config, 'cpu', pretrained=False)
    assert isinstance(first, SwAV) and not first.training
    torch.save(dict(state_dict=first.state_dict()), weights)
    second = get_model(config, 'cpu', checkpoint=weights)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])
    assert second.data_preprocessor.mean.flatten().tolist() == [99.0] * 3
    # A name stands for its config; here the weights do not fit it.
    with pytest.raises(ValueError, match='w.pth does not fill the SwAV'):
        get_model(NAME, 'cpu', checkpoint=weights)
    assert isinstance(get_model(NAME, 'cpu', pretrained=False), SwAV)
    # Without the config the message names it, if it lies there alone.
    says = re.escape(f'get_model({config!r}, checkpoint={weights!r})')
    with pytest.raises(ValueError, match=says):
        get_model(weights)
    (tmp_path / 'other.py').write_text('')
    with pytest.raises(ValueError, match=r'get_model\(CONFIG, checkpoint='):
        get_model(weights)


def test_a_checkpoint_is_read_once(tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(CONFIG)
    config, path = str(tmp_path / 'mine.py'), tmp_path / 'w.pth'
    first = get_model(config, 'cpu', pretrained=False)
    torch.save(first.state_dict(), path)
    of_config = Checkpoint(path)
    assert of_config.weights
    torch.save(ResNet(18, base_channels=8, stem_channels=8).state_dict(), path)
    alone = Checkpoint(path)
    assert alone.weights
    path.unlink()
    model = get_model(config, 'cpu', checkpoint=of_config)
    for name, value in first.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    model = get_model(alone, 'cpu')
    assert torch.equal(
        model.backbone.conv1.weight, alone.weights['conv1.weight']
    )


def test_config_text_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    meta = dict(cfg=f"open({str(tmp_path / 'ran')!r}, 'w')")
    weights = ResNet(18, base_channels=8, stem_channels=8).state_dict()
    torch.save(dict(state_dict=weights, meta=meta), tmp_path / 'w.pth')
    get_model(tmp_path / 'w.pth', 'cpu')
    assert not (tmp_path / 'ran').exists()


def test_contradictions_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / 'mine.py').write_text(CONFIG)
    config = tmp_path / 'mine.py'
    regnet = 'seer_regnety-32gf_ig1b_vissl'
    no_config = 'deepcluster-v2_resnet50_64xb64-mcrop-2-coslr-400e_in1k-224'
    for arguments, message in (
        (dict(model=config), 'mine.py without weights; add checkpoint=FILE'),
        (
            dict(model=config, pretrained=False, checkpoint=checkpoint),
            'pretrained=False and checkpoint=.*give one',
        ),
        (dict(model=checkpoint, pretrained=False), 'these go with a config'),
        (dict(model=no_config, pretrained=False), 'no config of deepcluster'),
        (dict(model=tmp_path / 'no.py', pretrained=False), 'no.py'),
        (dict(model=regnet), f'{regnet} cannot be loaded: its backbone is'),
        (
            dict(model=NAME.replace('224-96', '224-99'), pretrained=False),
            f'did you mean .*{NAME}',
        ),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            get_model(**arguments)


def test_misspelt_checkpoints_are_named() -> None:
    with pytest.raises(FileNotFoundError, match=f'did you mean .*{NAME}'):
        get_model(NAME.replace('mcrop', 'mcorp'))


def test_bad_images_are_named(checkpoint: Path, tmp_path: Path) -> None:
    model = get_model(checkpoint, 'cpu')
    gray = np.zeros((9, 9), np.uint8)
    for images, error, message in (
        ([], ValueError, 'empty list of images'),
        (
            tmp_path,
            ValueError,
            f'^no images in {re.escape(str(tmp_path))}.* in a .txt list',
        ),
        (tmp_path / 'x.jpg', FileNotFoundError, 'there is no image .*x.jpg'),
        (['no.jpg'], FileNotFoundError, 'there is no image no.jpg'),
        ([gray], ValueError, r'image 0 .*\(9, 9\).*expected \(H, W, 3\)'),
        (gray, ValueError, r'image 0 .*\(9, 9\).*expected \(H, W, 3\)'),
        (None, TypeError, 'image 0 is a NoneType; expected a file'),
        (
            np.zeros((2, 9, 9, 3), np.float32),
            ValueError,
            'image 0 .*float32.*uint8',
        ),
        ([torch.zeros(3, 9, 9)], TypeError, 'image 0 is a Tensor'),
    ):
        with pytest.raises(error, match=message):
            extract_features(model, images)
    (tmp_path / 'broken.jpg').write_bytes(b'\xff\xd8 not a photo')
    for num_workers in (0, 1):
        with pytest.raises(RuntimeError, match='broken.jpg: not an image'):
            extract_features(model, tmp_path, num_workers=num_workers)
