"""Which emkit this is, and what it runs on: the first thing a bug report needs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import joblib

from . import kernels


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


__version__ = _version("emkit")

_PACKAGES = ("numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "matplotlib", "pandas")


def show_versions() -> None:
    """Print the versions of emkit and what it stands on, and which kernels run.

    Examples
    --------
    >>> import emkit
    >>> emkit.show_versions()  # doctest: +ELLIPSIS
    emkit: ...
    """
    rows = [("emkit", __version__), ("kernels", kernels.BUILD), ("python", platform.python_version())]
    rows += [(package, _version(package)) for package in _PACKAGES]
    rows += [("platform", platform.platform()), ("cores", str(joblib.cpu_count()))]
    for name, value in rows:
        print(f"{name}: {value}")
