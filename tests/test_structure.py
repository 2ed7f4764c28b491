"""What the sources as a whole promise: no cycle, few requirements, short files, nothing twice, tests that assert."""

import ast
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import emkit

PACKAGE = Path(emkit.__file__).parent
MODULES = {
    ".".join(("emkit", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
SOURCES = sorted((Path(__file__).parents[1] / "emkit" / "kernels").glob("*.[ch]pp"))  # no wheel has them
TESTS = sorted(Path(__file__).parent.glob("test_*.py"))
# What `import emkit` may ask for; everything else is imported where it is used.
REQUIRED = {"numpy", "scipy", "sklearn", "joblib", "threadpoolctl"}
LONGEST_FILE = 600
LONGEST_REPEAT = 5


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def at_import(body):
    """Statements that run when a module is imported, those of classes and branches with them."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers"):
            yield from at_import(getattr(statement, field, []))


def imports(name):
    """Modules that importing the module `name` imports, by their full names."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for statement in at_import(parse(path).body):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            source = statement.module or ""
            if statement.level:
                base = package.split(".")
                source = ".".join([*base[: len(base) - statement.level + 1], *([source] if source else [])])
            # `from package import name` imports the module `name` where there is one, and the package itself if not.
            for alias in statement.names:
                yield f"{source}.{alias.name}" if f"{source}.{alias.name}" in MODULES else source


def test_no_import_cycle():
    needs = {name: sorted({needed for needed in imports(name) if needed in MODULES} - {name}) for name in MODULES}
    done: set[str] = set()

    def visit(name, trail):
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for needed in needs[name]:
                visit(needed, [*trail, name])
            done.add(name)

    for name in MODULES:
        visit(name, [])
    assert any(needs.values())


@pytest.mark.parametrize("name", MODULES)
def test_imports_at_module_level(name):
    packages = {needed.partition(".")[0] for needed in imports(name)}
    assert packages <= {"emkit", *REQUIRED, *sys.stdlib_module_names}


@pytest.mark.parametrize("path", [*MODULES.values(), *SOURCES], ids=lambda path: path.name)
def test_short_files(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def only_stores(node):
    """Whether this is a constructor as scikit-learn wants it: every parameter spelt out, stored and left alone."""
    if not (isinstance(node, ast.FunctionDef) and node.name == "__init__"):
        return False
    stored = [ast.unparse(statement).split(" = ") for statement in node.body]
    return all(len(sides) == 2 and sides[0] == f"self.{sides[1]}" for sides in stored)


def code_lines(path):
    """Number and words of each line of code: no docstring, import, comment, constructor or mere punctuation."""
    text, tree = path.read_text(encoding="utf-8").splitlines(), parse(path)
    passed_over = set()
    for node in ast.walk(tree):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_docstring or isinstance(node, ast.Import | ast.ImportFrom) or only_stores(node):
            passed_over |= set(range(node.lineno, node.end_lineno + 1))
    for number, line in enumerate(text, start=1):
        words = " ".join(line.split())
        is_code = any(map(str.isalnum, words)) and not words.startswith("#")
        if is_code and number not in passed_over:
            yield number, words


def test_nothing_is_written_twice():
    places = defaultdict(list)
    for path in MODULES.values():
        lines = list(code_lines(path))
        for begin in range(len(lines) - LONGEST_REPEAT):
            window = lines[begin : begin + LONGEST_REPEAT + 1]
            place = f"{path.relative_to(PACKAGE.parent)}:{window[0][0]}"
            places["\n".join(words for _, words in window)].append(place)
    assert len(places) > 1000
    twice = [f"{' and '.join(where)}:\n{window}" for window, where in places.items() if len(where) > 1]
    assert not twice, "\n\n".join(twice)


def calls(function):
    """Last names of what a function calls."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def checks(function, helpers):
    """Whether a function can fail for what it finds: asserts, expects an error, or calls a function that does."""
    says = any(isinstance(node, ast.Assert) for node in ast.walk(function))
    return says or any(
        name in helpers or name in {"check", "fail", "raises", "warns"} or name.startswith(("assert_", "check_"))
        for name in calls(function)
    )


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_every_test_asserts(path):
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef)]
    helpers: set[str] = set()
    while found := {f.name for f in functions if f.name not in helpers and checks(f, helpers)}:
        helpers |= found
    silent = [f"{f.name} (line {f.lineno})" for f in functions if f.name.startswith("test_") and f.name not in helpers]
    assert not silent
