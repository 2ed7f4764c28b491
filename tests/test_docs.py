"""What the docstrings, the README and the pages show is what happens."""

import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
import test_laws
from specimens import Specimen

import emkit
from emkit.finite_mixture import Mixture

README = Path(__file__).parent.parent / "README.md"
DOCS = README.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
# Laws that a class which has nothing but what it must is held to.
LAWS = [
    test_laws.test_statistics_are_additive,
    test_laws.test_plain_em_never_lowers_the_objective,
    test_laws.test_weights_are_repetitions_starts_included,
    test_laws.test_charts_are_inverse,
]
MODULES = ["emkit", *(m.name for m in pkgutil.walk_packages(emkit.__path__, "emkit.") if ".kernels._" not in m.name)]


def skip_without_callbacks(code):
    if "set_callbacks" in code and tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 9):
        pytest.skip("scikit-learn before 1.9 has no callbacks")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    if name == "emkit.callbacks":
        skip_without_callbacks("set_callbacks")
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")  # it warns of many


def blocks(path):
    """The Python of a page, each block with the number of its first line."""
    text = path.read_text(encoding="utf-8")
    return [(text[: m.start(1)].count("\n"), m[1]) for m in re.finditer(r"```python\n(.*?)```", text, re.DOTALL)]


def check_runs(path, line, code, names):
    """Run a block, as if it stood alone in a file; whatever it fitted has been fitted well."""
    exec(compile("\n" * line + code, path.name, "exec"), names)
    endings = {name: thing.status_ for name, thing in names.items() if hasattr(thing, "status_")}
    assert set(endings.values()) <= {"converged", "stopped"}, endings


@pytest.mark.parametrize(("line", "code"), blocks(README))
def test_each_block_of_the_readme_runs_alone(line, code, tmp_path, monkeypatch):
    skip_without_callbacks(code)
    monkeypatch.chdir(tmp_path)
    check_runs(README, line, code, {"__name__": "readme"})


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_in_turn(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": page.stem}
    for line, code in blocks(page):
        check_runs(page, line, code, names)


@pytest.fixture(scope="module")
def guide():
    """What the classes of extend.md are called."""
    names: dict = {"__name__": "guide"}
    for line, code in blocks(DOCS / "extend.md"):
        check_runs(DOCS / "extend.md", line, code, names)
    return names


def test_the_law_of_the_guide_finds_its_parameters(guide):
    X = np.random.default_rng(0).geometric(np.repeat([0.5, 0.02], 200))[:, None].astype(float)
    model = emkit.EMHiddenMarkov(2, emission=guide["Geometric"](), random_state=0).fit(X)
    np.testing.assert_allclose(np.sort(model.chances_), [0.02, 0.5], rtol=0.2)


def test_the_family_of_the_guide_finds_its_parameters(guide):
    fishing, errors = guide["fishing"], guide["errors"]
    assert abs(fishing.inflation_ - 0.3) < 3 * errors.inflation_
    assert abs(fishing.rate_ - 1.5) < 3 * errors.rate_


@pytest.fixture(params=["law in a mixture", "family"])
def specimen(request, guide, monkeypatch):
    """A class of extend.md among the specimens."""
    rng = np.random.default_rng(1)
    if request.param == "family":
        model, X = guide["ZeroInflatedPoisson"](), np.where(rng.random(400) < 0.3, 0, rng.poisson(3.0, 400))
    else:
        model, X = Mixture(guide["Geometric"](), 2), rng.geometric(np.repeat([0.5, 0.02], 200))
    made = Specimen(model, X[:, None].astype(float), any_units=False, any_origin=False)
    monkeypatch.setitem(test_laws.SPECIMENS, "guide", made)
    return request.param


@pytest.mark.parametrize("law", LAWS)
def test_the_classes_of_the_guide_obey_the_laws(law, specimen):
    law(name="guide")  # asserts
    assert "guide" in test_laws.SPECIMENS
    if specimen == "family":  # it has a q_value
        test_laws.test_the_score_is_the_gradient_of_the_objective("guide")


def test_the_page_of_laws_names_tests_that_exist():
    named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", (DOCS / "laws.md").read_text(encoding="utf-8"))
    assert named
    for file, test in named:
        assert f"def {test}(" in Path(__file__).with_name(f"{file}.py").read_text(encoding="utf-8"), (file, test)


def test_everything_public_is_documented_with_an_example():
    for name in emkit.__all__:
        thing = getattr(emkit, name)
        if callable(thing):
            assert ">>>" in thing.__doc__, name
