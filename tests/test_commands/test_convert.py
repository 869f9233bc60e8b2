"""`swav convert` and the scripts over it, as a user runs them."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.transforms.functional import normalize

from swav_plugin.commands import convert
from tests.conftest import REPO_ROOT
from tests.test_checkpoints.layouts import released

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Run:
    """Run a command, or a script by its name; gives what it prints."""

    def start(*args: object, script: str | None = None) -> str:
        module = convert
        if script is not None:
            path = REPO_ROOT / f'tools/model_converters/{script}.py'
            spec = importlib.util.spec_from_file_location(script, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        monkeypatch.setattr(sys, 'argv', [script or 'swav', *map(str, args)])
        module.main()
        return capsys.readouterr().out

    return start


@pytest.fixture
def refuse(run: Run, capsys: pytest.CaptureFixture) -> Run:
    """Run a command that has to fail; gives the line that it ends with."""

    def start(*args: object, script: str | None = None) -> str:
        with pytest.raises(SystemExit) as caught:
            run(*args, script=script)
        assert caught.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return start


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / 'swav.pth.tar'
    torch.save(released(), path)
    return path


def test_formats_are_those_of_the_package() -> None:
    from swav_plugin.checkpoints.write import FORMATS

    assert {*convert._FORMATS} == {*FORMATS, 'onnx'}


def test_says_what_was_written(run: Run, source: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out.pth'
    assert run(source, out, '--to', 'official') == (
        f'{out}: 130 tensors of the backbone, neck and prototypes\n'
    )
    assert run(source, out, '--to', 'timm', '--overwrite') == (
        f'{out}: 120 tensors of the backbone\n'
        'left out: neck.projection, head.prototypes\n'
    )


def test_of_a_work_dir_the_newest_is_written(
    run: Run, source: Path, tmp_path: Path
) -> None:
    work_dir, out = tmp_path / 'work', tmp_path / 'out.pth'
    work_dir.mkdir()
    source.rename(work_dir / 'epoch_3.pth')
    assert f'{out}: 120 tensors' in run(work_dir, out, '--to', 'timm')


def test_mistakes_are_told_in_one_line(
    refuse: Run, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'out.pth'
    for args, message in (
        ((tmp_path / 'x.pth', out, '--to', 'timm'), 'there is no checkpoint'),
        ((source, source, '--to', 'timm'), 'is the checkpoint itself'),
        ((source, out, '--to', 'onnx'), 'give one that ends with .onnx'),
        ((source, out, '--to', 'timm', '--with-head'), 'is for --to onnx'),
        ((source, out, '--to', 'timm', '--config=a.py'), 'is for --to onnx'),
        ((source, '', '--to', 'timm'), 'OUT is empty'),
        ((tmp_path, out, '--to', 'timm'), 'is a folder'),
    ):
        line = refuse(*args)
        assert line.startswith('swav: error: ') or 'error: ' in line
        assert message in line
    assert not out.exists()


@torch.no_grad()
def test_onnx_computes_what_torchvision_does(
    run: Run, refuse: Run, tmp_path: Path, test_data: Path
) -> None:
    pytest.importorskip('onnx')
    pytest.importorskip('onnxscript')
    onnxruntime = pytest.importorskip('onnxruntime')
    torch.manual_seed(0)
    resnet = torchvision.models.resnet18()
    for name, tensor in resnet.state_dict().items():
        if name.endswith('running_mean'):
            tensor.normal_(std=0.1)
        elif name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
    head = {
        key: value
        for key, value in released().items()
        if 'projection_head' in key or 'prototypes' in key
    }
    backbone = {
        f'module.{key}': value
        for key, value in resnet.state_dict().items()
        if not key.startswith('fc.')
    }
    torch.save(backbone, tmp_path / 'backbone.pth')
    line = refuse(
        tmp_path / 'backbone.pth',
        tmp_path / 'out.onnx',
        '--to',
        'onnx',
        '--with-head',
    )
    assert 'a ResNet-18, without neck, prototypes or queue' in line
    assert line.endswith('write the backbone alone')
    torch.save(backbone | head, tmp_path / 'in.pth')
    out = tmp_path / 'out.onnx'
    printed = run(tmp_path / 'in.pth', out, '--to', 'onnx', '--with-head')
    assert printed.endswith(
        '130 tensors of the backbone, neck and prototypes\n'
    )
    session = onnxruntime.InferenceSession(out)

    files = sorted((test_data / 'photos').glob('*.JPEG'))[:3]
    images = torch.stack(
        [
            torch.tensor(
                np.asarray(Image.open(file).convert('RGB').resize((96, 64)))
            )
            for file in files
        ]
    )
    images = images.permute(0, 3, 1, 2).float() / 255
    features, scores = map(
        torch.as_tensor,
        session.run(['features', 'scores'], dict(images=images.numpy())),
    )
    resnet.fc = torch.nn.Identity()
    # SwAV's own 0.228 for red, as its weights were trained.
    normal = normalize(images, [0.485, 0.456, 0.406], [0.228, 0.224, 0.225])
    wanted = resnet.eval()(normal)
    largest = float(wanted.abs().max())
    torch.testing.assert_close(features, wanted, rtol=0, atol=1e-5 * largest)
    projection = torch.nn.Sequential(
        torch.nn.Linear(512, 6),
        torch.nn.BatchNorm1d(6),
        torch.nn.ReLU(),
        torch.nn.Linear(6, 4),
    ).eval()
    projection.load_state_dict(
        {
            key.removeprefix('module.projection_head.'): value
            for key, value in head.items()
            if 'projection_head' in key
        }
    )
    prototypes = head['module.prototypes.weight']
    cosines = torch.nn.functional.cosine_similarity(
        projection(wanted)[:, None], prototypes[None], dim=2
    )
    torch.testing.assert_close(scores, cosines, rtol=0, atol=1e-5)


def test_extract_backbone_weights(
    run: Run, refuse: Run, source: Path, tmp_path: Path
) -> None:
    script = 'extract_backbone_weights'
    out = tmp_path / 'out.pth'
    line = refuse(source, out, script=script)
    assert line.startswith(f'{script}: error: none of the 130 tensors is bel')
    args = (source, out, '--prefix', 'module', '--remove-prefix')
    assert run(*args, script=script) == f'{out}: 130 tensors of the module\n'
    weights = torch.load(out, weights_only=True)['state_dict']
    assert 'conv1.weight' in weights and len(weights) == 130
    assert 'exists already' in refuse(*args, script=script)
    run(source, out, '--prefix=module', '--overwrite', script=script)
    weights = torch.load(out, weights_only=True)['state_dict']
    assert weights.keys() == released().keys()


def test_publish_model(run: Run, source: Path, tmp_path: Path) -> None:
    printed = run(source, tmp_path / 'out', script='publish_model')
    name = re.match(r'(.*/out_\d{8}-[0-9a-f]{8}\.pth): 130 tensors', printed)
    assert name and Path(name[1]).is_file()
