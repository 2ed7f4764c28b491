"""Every example runs, from an empty directory, and shows the pictures it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

# A backend of matplotlib whose screen is the working directory.
BACKEND = """
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg as FigureCanvas


def show(block=None):
    for number in pyplot.get_fignums():
        pyplot.figure(number).savefig(f"shown{number}.png")
"""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, tmp_path):
    (tmp_path / "to_folder.py").write_text(BACKEND)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"MPLBACKEND": "module://to_folder", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, example], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    # A reader of the gallery should not have to wonder whether a fit is the best.
    assert "ConvergenceWarning" not in done.stderr, done.stderr
    pictures = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    for line in done.stdout.splitlines():
        if line.startswith("picture: "):
            assert line.removeprefix("picture: ") in pictures
    if "plt.show()" in example.read_text() and not done.stdout.startswith("no "):
        assert "shown1.png" in pictures
    assert all(size > 10_000 for size in pictures.values())
