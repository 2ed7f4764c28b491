"""What the docstrings and the README show is what happens."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

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


def test_everything_public_is_documented_with_an_example():
    for name in emkit.__all__:
        thing = getattr(emkit, name)
        if callable(thing):
            assert ">>>" in thing.__doc__, name
