"""What the docstrings and the README show is what happens."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import emkit

README = Path(__file__).parent.parent / "README.md"
MODULES = ["emkit", *(m.name for m in pkgutil.walk_packages(emkit.__path__, "emkit.") if ".kernels._" not in m.name)]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0


def test_readme_code_runs(capsys):
    code = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert code
    for block in code:
        exec(compile(block, "README.md", "exec"), {})
    assert "converged" in capsys.readouterr().out


def test_the_law_of_the_guide_works():
    guide = (README.parent / "docs" / "extend.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    names: dict = {"__name__": "guide"}
    exec(compile(code, "extend.md", "exec"), names)
    X = np.random.default_rng(0).geometric(np.repeat([0.5, 0.02], 200))[:, None].astype(float)
    model = emkit.EMHiddenMarkov(2, emission=names["Geometric"](), random_state=0).fit(X)
    np.testing.assert_allclose(np.sort(model.chances_), [0.02, 0.5], rtol=0.2)


def test_everything_public_is_documented_with_an_example():
    for name in emkit.__all__:
        thing = getattr(emkit, name)
        if callable(thing):
            assert ">>>" in thing.__doc__, name
