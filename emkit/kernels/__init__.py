"""The door to the kernels: the best build this processor can run, else the NumPy reference; the same signatures.

`BUILD` names what runs. The environment variable ``EMKIT_KERNELS`` forces one of `available` for the whole process.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from .._arrays import is_elsewhere
from ..exceptions import KernelWarning, warn
from . import devices, reference
from .reference import (
    condense_missing,
    expect_chain_diag,
    expect_chain_full,
    expect_chain_spherical,
    expect_chain_symbols,
    expect_chain_tied,
    expect_diag,
    expect_full,
    expect_missing,
    expect_spherical,
    expect_tied,
    filter_chain,
    forward_backward,
    group_missing,
    infer_diag,
    infer_full,
    infer_missing,
    infer_spherical,
    infer_tied,
    log_prob_diag,
    log_prob_full,
    log_prob_spherical,
    log_prob_tied,
    moments_missing,
    range_missing,
    standardize_missing,
    summarize_diag,
    summarize_full,
    summarize_spherical,
    summarize_tied,
    viterbi,
    viterbi_diag,
    viterbi_full,
    viterbi_spherical,
    viterbi_tied,
)

__all__ = [
    "BUILD",
    "at",
    "available",
    "condense_missing",
    "expect_chain_diag",
    "expect_chain_full",
    "expect_chain_spherical",
    "expect_chain_symbols",
    "expect_chain_tied",
    "expect_diag",
    "expect_full",
    "expect_missing",
    "expect_spherical",
    "expect_tied",
    "filter_chain",
    "forward_backward",
    "group_missing",
    "infer_diag",
    "infer_full",
    "infer_missing",
    "infer_spherical",
    "infer_tied",
    "load",
    "log_prob_diag",
    "log_prob_full",
    "log_prob_spherical",
    "log_prob_tied",
    "moments_missing",
    "range_missing",
    "standardize_missing",
    "summarize_diag",
    "summarize_full",
    "summarize_spherical",
    "summarize_tied",
    "viterbi",
    "viterbi_diag",
    "viterbi_full",
    "viterbi_spherical",
    "viterbi_tied",
]

_MODULES = {
    "x86-64-v4": "_kernels_v4",
    "x86-64-v3": "_kernels_v3",
    "x86-64-v2": "_kernels_v2",
    "baseline": "_kernels_baseline",
}


def available() -> tuple[str, ...]:
    """Names of the builds this processor can run, best first; the last is always "reference".

    Returns
    -------
    names : tuple of str
    """
    built = [name for name, module in _MODULES.items() if find_spec(f"{__name__}.{module}") is not None]
    if not built:
        return ("reference",)
    # The lowest build runs everywhere and knows the processor; a higher one may not even be imported.
    level = load(built[-1]).processor_level()
    return (*(name for name in built if not name[-1].isdigit() or int(name[-1]) <= level), "reference")


def at(X: Any) -> ModuleType:
    """Find the kernels for rows that are where these are.

    Parameters
    ----------
    X : array
        A NumPy array, or one of another library.

    Returns
    -------
    kernels : module
        This one, or `emkit.kernels.devices`.
    """
    return devices if is_elsewhere(X) else sys.modules[__name__]


def load(name: str) -> ModuleType:
    """Import one build.

    Parameters
    ----------
    name : str
        One of `available`.

    Returns
    -------
    kernels : module
        With the functions of `emkit.kernels.reference`.
    """
    return reference if name == "reference" else import_module(f"{__name__}.{_MODULES[name]}")


def _choose() -> str:
    """Name of the build to run; warns if it is the reference for want of another."""
    names = available()
    wanted = os.environ.get("EMKIT_KERNELS", names[0])
    if wanted not in names:
        raise ImportError(f"EMKIT_KERNELS={wanted}, but this processor and installation can run {', '.join(names)}")
    if names == ("reference",) and "EMKIT_KERNELS" not in os.environ:
        here = Path(__file__)
        if here.with_name("CMakeLists.txt").exists():  # never installed
            cause, remedy = (
                f"this is its source folder, {here.parents[1]}",
                "Start Python elsewhere, or install it with -e",
            )
        else:
            cause, remedy = "its compiled kernels are missing", "Reinstall it with a C++17 compiler"
        warn(
            f"emkit runs on NumPy: {cause}, and fits take several times longer. {remedy}, or set "
            "EMKIT_KERNELS=reference to accept this",
            KernelWarning,
        )
    return wanted


BUILD: str = _choose()
for _name in __all__:
    if hasattr(reference, _name):
        globals()[_name] = getattr(load(BUILD), _name, getattr(reference, _name))
