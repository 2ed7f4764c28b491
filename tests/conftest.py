"""The same examples at every run; ``pytest --hypothesis-profile=fuzz`` looks for new ones, many times as many."""

import gc
import sys

import pytest
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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Take the tracer away from them; pytest-cov's own way, a marker, costs more than it saves."""
    tracer = sys.gettrace()
    if item.path.stem in UNTRACED:
        sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)


def pytest_collection_finish():
    """Let the collector of garbage pass over what lives to the end: thousands of tests, and the packages."""
    gc.collect()
    gc.freeze()
