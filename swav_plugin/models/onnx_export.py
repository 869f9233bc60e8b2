"""Write a network as an ONNX program: images to features and scores.

Letters for shapes: N images of H x W pixels, C channels of the backbone,
D embedding size, K prototypes.
"""

import importlib
import inspect
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .feature_pooling import pool_output

INPUT = 'images: float32 (N, 3, H, W), RGB in 0..1; normalized inside'
_FREE = {0: 'N', 2: 'H', 3: 'W'}
# protobuf, and so a single ONNX file, ends here.
_MAX_BYTES = 2**31


class MissingPackages(ImportError):
    """Something that the export needs is not installed."""


class _Program(nn.Module):
    """What the file computes: (N, 3, H, W) -> (N, C) and (N, K) each."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        mean: Tensor,
        std: Tensor,
        neck: nn.Module | None,
        prototypes: Sequence[Tensor],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.register_buffer('mean', mean / 255)
        self.register_buffer('std', std / 255)
        self.num_sets = len(prototypes)
        for index, each in enumerate(prototypes):
            # An optimizer step leaves prototypes a little off unit length.
            rows = F.normalize(each.float(), dim=1)
            self.register_buffer(f'prototypes{index}', rows)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.backbone((images - self.mean) / self.std)
        features = pool_output(outputs, self.backbone)
        if self.neck is None:
            return (features,)
        embeddings = self.neck(features)
        scores = [
            embeddings @ getattr(self, f'prototypes{index}').T
            for index in range(self.num_sets)
        ]
        return (features, *scores)


def export_onnx(
    backbone: nn.Module,
    mean: Tensor,
    std: Tensor,
    neck: nn.Module | None = None,
    prototypes: Sequence[Tensor] = (),
    about: Mapping[str, str] | None = None,
) -> bytes:
    """Return an ONNX program that normalizes images and computes features.

    N, H and W are free. Its input is `images`, its outputs are `features`
    (N, C), averaged over space, and with a neck `scores` (N, K), cosines with
    the prototypes; with several sets `scores0`, `scores1`, ...

    Args:
        backbone: In eval mode, on the CPU.
        mean: (3, 1, 1), in 0..255.
        std: The same.
        neck: Maps features to embeddings.
        prototypes: (K, D) for each set.
        about: Further metadata.

    Raises:
        MissingPackages: onnx, or what torch's exporter needs, is missing.
        ValueError: The network does not fit into one file, 2 GiB.
        RuntimeError: onnxruntime, if it is installed, computes other numbers.
    """
    onnx = _import('onnx')
    program = _Program(backbone, mean, std, neck, prototypes).eval()
    num_bytes = sum(
        each.numel() * each.element_size()
        for each in program.state_dict().values()
    )
    if num_bytes >= _MAX_BYTES:
        raise ValueError(
            f'the network has {num_bytes / 2**30:.1f} GiB, and a file of ONNX '
            'holds up to 2; convert it to safetensors.'
        )
    names = ['features', *(f'scores{i}' for i in range(len(prototypes)))]
    if len(prototypes) == 1:
        names[1] = 'scores'
    proto = onnx.load_from_string(_export(program, names))
    _remove_traces(proto.graph)
    metadata = dict(about or {}, input=INPUT, outputs=', '.join(names))
    proto.doc_string = INPUT
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    _compare(program, content)
    return content


def _export(program: _Program, names: list[str]) -> bytes:
    """Let torch write the program, with the exporter that it defaults to."""
    images = torch.rand(2, 3, 64, 96)
    arguments: dict[str, Any] = dict(
        input_names=['images'], output_names=names
    )
    signature = inspect.signature(torch.onnx.export).parameters
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if 'dynamo' in signature and signature['dynamo'].default is True:
            _import('onnxscript')
            free = {
                axis: torch.export.Dim(name) for axis, name in _FREE.items()
            }
            exported: Any = torch.onnx.export(
                program,
                (images,),
                dynamo=True,
                opset_version=18,
                dynamic_shapes=dict(images=free),
                verbose=False,
                **arguments,
            )
            return exported.model_proto.SerializeToString()
        file: Any = io.BytesIO()
        torch.onnx.export(
            program,
            (images,),
            file,
            opset_version=17,
            dynamic_axes=dict(images=_FREE, **dict.fromkeys(names, {0: 'N'})),
            **arguments,
        )
        return file.getvalue()


def _remove_traces(graph: Any) -> None:
    """Remove what the exporter notes about files on this machine."""
    for each in (graph, *graph.node, *graph.input, *graph.output):
        each.doc_string = ''
        if hasattr(each, 'metadata_props'):  # since onnx 1.16
            del each.metadata_props[:]


def _compare(program: _Program, content: bytes) -> None:
    """Run the file on images of another number and size."""
    try:
        import onnxruntime
    except ImportError:
        return
    session = onnxruntime.InferenceSession(
        content, providers=['CPUExecutionProvider']
    )
    images = torch.rand(3, 3, 96, 64)
    found = session.run(None, dict(images=images.numpy()))
    with torch.no_grad():
        wanted = program(images)
    for ours, theirs in zip(wanted, map(torch.as_tensor, found)):
        error = float((ours - theirs).abs().max() / ours.abs().max())
        if not error < 1e-3:
            raise RuntimeError(
                f'onnxruntime computes features that differ by {error:.1g} of '
                'the largest; nothing was written. Try another version of '
                'torch or onnxruntime.'
            )


def _import(name: str) -> Any:
    """Import an optional package.

    Raises:
        MissingPackages: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingPackages(
            f'--to onnx needs {name}: run `pip install onnx onnxscript '
            'onnxruntime`, or install swav_plugin[onnx].'
        ) from error
