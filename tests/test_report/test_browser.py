"""The report in a headless browser, where there is one."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from swav_plugin.report.embedding_map import draw_map, to_html

BROWSER = next(
    filter(None, map(shutil.which, ('chromium', 'google-chrome'))), None
)
pytestmark = pytest.mark.skipif(not BROWSER, reason='needs Chromium')

# In a frame as wide as a phone, since a window cannot be.
FRAME = '<title>-</title><iframe width="{}" height="800" srcdoc="{}"></iframe>'
LOOK = """<script>addEventListener('load', () => {
    const dot = document.querySelector('.dot');
    const name = dot.querySelector('text');
    const before = getComputedStyle(name).display;
    dot.focus();
    const body = getComputedStyle(document.body);
    parent.document.title = JSON.stringify({
        window: innerWidth, page: document.documentElement.scrollWidth,
        paper: body.backgroundColor, ink: body.color,
        name: [before, getComputedStyle(name).display]});
})</script></body>"""


def look(page: str, folder: Path, width: int, is_dark: bool) -> dict:
    """Return what a browser makes of a page."""
    framed = page.replace('</body>', LOOK)
    path = folder / 'frame.html'
    path.write_text(FRAME.format(width, html.escape(framed)))
    done = subprocess.run(
        [
            str(BROWSER),
            '--headless',
            '--no-sandbox',
            '--disable-gpu',
            '--window-size=1400,900',
            f'--blink-settings=preferredColorScheme={int(not is_dark)}',
            '--virtual-time-budget=3000',
            '--dump-dom',
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    (title,) = re.findall('<title>(.*?)</title>', done.stdout)
    return json.loads(html.unescape(title))


def brightness(color: str) -> float:
    """Return the mean of 'rgb(r, g, b)'."""
    return float(np.mean([int(part) for part in re.findall(r'\d+', color)]))


@pytest.mark.parametrize('width', [390, 1280])
@pytest.mark.parametrize('is_dark', [False, True])
def test_a_map_on_any_screen(
    width: int, is_dark: bool, tmp_path: Path
) -> None:
    """It fits, follows the colors of the system, and a tap tells a name."""
    generator = torch.Generator().manual_seed(0)
    found = draw_map(
        torch.randn(30, 8, generator=generator),
        ['a class', 'another'] * 15,
        [f'a long name of a file, number {i}.jpg' for i in range(30)],
    )
    seen = look(to_html('A map', found), tmp_path, width, is_dark)
    assert seen['window'] == width and seen['page'] <= width
    assert seen['name'][0] == 'none' and seen['name'][1] != 'none'
    dark, light = sorted([seen['paper'], seen['ink']], key=brightness)
    assert (seen['paper'] == dark) == is_dark
    assert brightness(light) - brightness(dark) > 128
