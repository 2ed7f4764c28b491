"""The same examples at every run; ``pytest --hypothesis-profile=fuzz`` looks for new ones, many times as many."""

import gc

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=100)
# What fails here prints the decorator that makes it fail again.
settings.register_profile("fuzz", derandomize=False, deadline=None, max_examples=300, print_blob=True)
settings.load_profile("repeatable")

# Files whose tests are not traced for coverage, which makes them half as slow again: what they run, others run, too.
UNTRACED = {
    "test_docs",
    "test_failures",
    "test_kernels_chain",
    "test_kernels_door",
    "test_laws",
    "test_properties",
    "test_sklearn",
}


def pytest_collection_modifyitems(items):
    """Tell pytest-cov of them."""
    for item in items:
        if item.path.stem in UNTRACED:
            item.add_marker("no_cover")


def pytest_collection_finish():
    """Let the collector of garbage pass over what lives to the end: thousands of tests, and the packages."""
    gc.collect()
    gc.freeze()
