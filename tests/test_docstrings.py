"""Docstrings of what users call, by numpydoc's own validator; with ``pip install 'emkit[dev]'``, which has it."""

import importlib
import inspect

import pytest

validation = pytest.importorskip("numpydoc.validate", reason="numpydoc is not installed: pip install numpydoc")

MODULES = ["emkit", "emkit.callbacks", "emkit.datasets", "emkit.display", "emkit.emissions", "emkit.exceptions"]
# Every check of numpydoc's counts, but for these.
LEFT_OUT = {
    "ES01",  # a summary of one line is often enough
    "SA01",  # a "See Also" that names the neighbour on the page adds nothing
    "EX01",  # asked of classes and functions only, below
    "PR07",  # "X : array-like of shape (n_samples, n_features)" says all there is
    "RT03",  # likewise
    "SS05",  # taken for a verb in the third person: "Schwarz's", "Akaike's"
}
# Here methods answer the engine, not users: `emkit._model.Emission` and scikit-learn's callback protocol describe them,
# a class says in a line what is its own.
CONTRACTS = {"emkit.callbacks", "emkit.emissions"}
OF_CONTRACTS = {"PR01", "RT01"}


def described():
    """Name, object and the checks that do not count for it."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            thing = getattr(module, name)
            if not callable(thing):
                continue
            yield f"{module_name}.{name}", LEFT_OUT - {"EX01"} if asks_for_example(thing) else LEFT_OUT
            of_methods = LEFT_OUT | (OF_CONTRACTS if module_name in CONTRACTS else set())
            for method in dir(thing) if inspect.isclass(thing) else ():
                if is_own(thing, method):
                    yield f"{module_name}.{name}.{method}", of_methods


def asks_for_example(thing):
    """Exceptions, warnings and abstract classes have nothing to run."""
    return not (inspect.isclass(thing) and (issubclass(thing, Exception) or inspect.isabstract(thing)))


def is_own(cls, name):
    """Whether a public attribute is a method or property that emkit wrote."""
    attribute = inspect.getattr_static(cls, name)
    function = getattr(attribute, "fget", None) or getattr(attribute, "__func__", attribute)
    return inspect.isfunction(function) and function.__module__.startswith("emkit") and not name.startswith("_")


@pytest.mark.filterwarnings("ignore")  # numpydoc's, of sections that scikit-learn's docstrings have
@pytest.mark.parametrize(("name", "left_out"), [pytest.param(*case, id=case[0]) for case in described()])
def test_docstring(name, left_out):
    faults = [(code, text) for code, text in validation.validate(name)["errors"] if code not in left_out]
    assert not faults
