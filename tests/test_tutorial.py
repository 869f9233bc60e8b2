"""The tutorial runs from top to bottom, and its outputs are of such a run."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import REPO_ROOT

NOTEBOOK = REPO_ROOT / 'demo/swav_tutorial.ipynb'


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [
        output for cell in notebook.cells for output in cell.get('outputs', ())
    ]


def printed(notebook: nbformat.NotebookNode) -> str:
    return ''.join(
        output.text
        for output in outputs(notebook)
        if output.get('name') == 'stdout'
    )


def num_pictures(notebook: nbformat.NotebookNode) -> int:
    return sum(
        'image/png' in output.get('data', ()) for output in outputs(notebook)
    )


def test_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is, with few images and iterations."""
    monkeypatch.setenv('SWAV_TUTORIAL_QUICK', '1')
    monkeypatch.setenv('PYTHONPATH', str(REPO_ROOT))
    for name in ('IPYTHONDIR', 'JUPYTER_RUNTIME_DIR'):  # nobody's settings
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name='python3',
        resources=dict(metadata=dict(path=str(tmp_path))),
    ).execute()
    text = printed(notebook)
    assert '200 images' in text
    assert len(re.findall(r'trained: \(200, 64\), kNN \d+\.\d%', text)) == 2
    assert len(re.findall(r'group \d: \d+ images', text)) == 10
    assert (tmp_path / 'work_dirs/tutorial/swav.safetensors').is_file()
    # It shows as many pictures as the committed run.
    committed = nbformat.read(NOTEBOOK, as_version=4)
    assert num_pictures(notebook) == num_pictures(committed) > 20


def test_outputs_are_those_of_one_whole_run() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == 'code']
    counts = [cell.execution_count for cell in cells]
    assert counts == [*range(1, len(cells) + 1)]
    kinds = {output.output_type for output in outputs(notebook)}
    assert kinds <= {'stream', 'display_data', 'execute_result'}
    assert '1797 images' in printed(notebook)
    # It learned, and says nothing of the machine.
    before, after = map(
        float, re.findall(r'kNN (\d+\.\d)%', printed(notebook))
    )
    assert after > before + 10
    text = NOTEBOOK.read_text()
    assert not re.search(r'/(home|root|tmp|work|usr|Users)/', text)
    assert len(text) < 400_000
