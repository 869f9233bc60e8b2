"""Small networks as ONNX programs, by both of torch's exporters."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swav_plugin.models import SwAVNeck, onnx_export

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

MEAN = torch.tensor([120.0, 110, 100]).view(3, 1, 1)
STD = torch.tensor([60.0, 50, 40]).view(3, 1, 1)


@pytest.fixture(params=['dynamo', 'legacy'])
def exporter(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Export as newer versions of torch do by default, or as older ones."""
    export: Callable = torch.onnx.export
    if 'dynamo' not in inspect.signature(export).parameters:
        if request.param == 'dynamo':
            pytest.skip('this torch has one exporter')
        return

    def newer(*args: Any, dynamo: bool = True, **kwargs: Any) -> Any:
        return export(*args, dynamo=True, **kwargs)

    def older(*args: Any, **kwargs: Any) -> Any:
        return export(*args, dynamo=False, **kwargs)

    chosen = dict(dynamo=newer, legacy=older)[request.param]
    monkeypatch.setattr(torch.onnx, 'export', chosen)


@pytest.mark.usefixtures('exporter')
@torch.no_grad()
def test_features_and_scores() -> None:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()
    ).eval()
    backbone[1].running_mean.normal_()
    neck = SwAVNeck(8, 6, 4).eval()
    prototypes = [torch.randn(5, 4), torch.randn(3, 4)]
    content = onnx_export.export_onnx(
        backbone, MEAN, STD, neck, prototypes, dict(source='a.pth')
    )
    program = onnx.load_from_string(content)
    about = {each.key: each.value for each in program.metadata_props}
    assert about['source'] == 'a.pth' and 'RGB in 0..1' in about['input']
    assert program.opset_import[0].version in (17, 18)
    assert b'site-packages' not in content and b'onnx_export' not in content
    sizes = program.graph.input[0].type.tensor_type.shape.dim
    assert [each.dim_param or each.dim_value for each in sizes] == [
        'N',
        3,
        'H',
        'W',
    ]
    session = onnxruntime.InferenceSession(content)
    for shape in ((1, 3, 32, 32), (5, 3, 48, 80)):
        images = torch.rand(shape)
        found = session.run(
            ['features', 'scores0', 'scores1'], dict(images=images.numpy())
        )
        features = backbone((255 * images - MEAN) / STD).mean((2, 3))
        embeddings = neck(features)
        wanted = [
            features,
            *(embeddings @ F.normalize(each).T for each in prototypes),
        ]
        for ours, theirs in zip(wanted, map(torch.as_tensor, found)):
            # Some hundred sums of float32, of numbers up to about 1.
            torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def test_a_program_that_computes_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = nn.Conv2d(3, 4, 1).eval()
    other = nn.Conv2d(3, 4, 1).eval()
    export = onnx_export._export

    def broken(program: Any, names: list[str]) -> bytes:
        program = onnx_export._Program(other, MEAN, STD, None, ()).eval()
        return export(program, names)

    monkeypatch.setattr(onnx_export, '_export', broken)
    with pytest.raises(RuntimeError, match='onnxruntime computes features'):
        onnx_export.export_onnx(backbone, MEAN, STD)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, 'onnx', None)
    with pytest.raises(onnx_export.MissingPackages, match='pip install onnx'):
        onnx_export.export_onnx(nn.Conv2d(3, 4, 1), MEAN, STD)


def test_a_network_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnx_export, '_MAX_BYTES', 2**4)
    with pytest.raises(ValueError, match='holds up to 2; convert'):
        onnx_export.export_onnx(nn.Conv2d(3, 4, 1), MEAN, STD)
