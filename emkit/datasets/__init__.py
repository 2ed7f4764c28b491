"""Small real data sets of the literature on mixtures and missing data, loaded like scikit-learn's own.

Every loader takes the same two keywords and returns the same Bunch; provenance and licence of each file are in
``README.md`` beside this one.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import Bunch

__all__ = [
    "load_africa",
    "load_airquality",
    "load_apple_crop",
    "load_banknote",
    "load_cement_missing",
    "load_cholesterol",
    "load_crabs",
    "load_diabetes_reaven_miller",
    "load_earthquakes",
    "load_faithful",
    "load_galaxies",
    "load_geyser",
    "load_marijuana",
    "load_nhanes",
    "load_sp500_monthly",
    "load_speed",
]


class _Table(NamedTuple):
    """What the columns of one file mean."""

    features: tuple[str, ...]
    classes: tuple[str, ...]  # columns which together name the class of a row; none if rows have no class
    about: str


_TABLES = {
    "faithful": _Table(
        ("eruptions", "waiting"),
        (),
        "Old Faithful geyser: length of an eruption and waiting time to the next, in minutes "
        "(Azzalini & Bowman 1990, Applied Statistics 39:357).",
    ),
    "diabetes_reaven_miller": _Table(
        ("glucose", "insulin", "sspg"),
        ("class",),
        "Plasma glucose, plasma insulin and steady-state plasma glucose of 145 adults, and their diagnosis "
        "(Reaven & Miller 1979, Diabetologia 16:17). Row 104 has insulin 45 where other copies have 455.",
    ),
    "banknote": _Table(
        ("Length", "Left", "Right", "Bottom", "Top", "Diagonal"),
        ("Status",),
        "Six measurements, in millimetres, of 100 genuine and 100 counterfeit Swiss 1000-franc notes "
        "(Flury & Riedwyl 1988, Multivariate Statistics: A Practical Approach).",
    ),
    "crabs": _Table(
        ("FL", "RW", "CL", "CW", "BD"),
        ("sp", "sex"),
        "Frontal lobe, rear width, carapace length and width, body depth, in millimetres, of 50 Leptograpsus crabs "
        "of each species (B blue, O orange) and sex (Campbell & Mahon 1974, Australian Journal of Zoology 22:417).",
    ),
    "galaxies": _Table(
        ("velocity",),
        (),
        "Velocities, in km/s, of 82 galaxies of the Corona Borealis region "
        "(Postman, Huchra & Geller 1986; Roeder 1990, JASA 85:617). Value 78 is 26690 where the paper has 26960.",
    ),
    "cement_missing": _Table(
        ("x1", "x2", "x3", "x4", "y"),
        (),
        "Heat of hardening of 13 cements and their four components, holes in a monotone pattern "
        "(Woods, Steinour & Starke 1932; holes of Little & Rubin 2002, p. 154).",
    ),
    "apple_crop": _Table(
        ("size", "worms"),
        (),
        "Size of the apple crop, in hundreds of fruits, and percentage of wormy fruits of 18 trees; 6 missing "
        "(Snedecor & Cochran, Statistical Methods; Little & Rubin 2002).",
    ),
    "cholesterol": _Table(
        ("Y1", "Y2", "Y3"),
        (),
        "Serum cholesterol of 28 patients 2, 4 and 14 days after a heart attack; day 14 missing for 9 "
        "(Ryan & Joiner 1994; Schafer 1997, Analysis of Incomplete Multivariate Data, chapter 5).",
    ),
    "marijuana": _Table(
        ("Plac.15", "Low.15", "High.15", "Plac.90", "Low.90", "High.90"),
        (),
        "Change of heart rate of 9 subjects, 15 and 90 minutes after a placebo, a low and a high dose; 5 cells missing "
        "(Weil, Zinberg & Nelson 1968, Science 162:1234; Schafer 1997, chapter 5).",
    ),
    "airquality": _Table(
        ("Ozone", "Solar.R", "Wind", "Temp", "Month", "Day"),
        (),
        "Daily air quality in New York, May to September 1973: ozone (ppb), radiation (Langley), wind (mph), "
        "temperature (F) "
        "(Chambers, Cleveland, Kleiner & Tukey 1983, Graphical Methods for Data Analysis).",
    ),
    "nhanes": _Table(
        ("age", "bmi", "hyp", "chl"),
        (),
        "Age group, body mass index, hypertension (1 no, 2 yes) and cholesterol of 25 people; 27 cells missing "
        "(Schafer 1997, table 6.14).",
    ),
    "africa": _Table(
        ("gdp_pc", "infl", "trade", "civlib", "population"),
        (),
        "Six African states from 1972 to 1991: product per head, inflation, trade, civil liberties, "
        "population (Africa Research Program, Harvard University; Honaker, King & Blackwell 2011, Journal of "
        "Statistical Software 45:7). The file has year and country too.",
    ),
    "earthquakes": _Table(
        ("count",),
        (),
        "Earthquakes of magnitude 7 or more in the world, each year from 1900 to 2006 "
        "(US Geological Survey; Zucchini, MacDonald & Langrock 2016, Hidden Markov Models for Time Series).",
    ),
    "speed": _Table(
        ("rt", "Pacc", "correct"),
        ("series",),
        "Logarithm of the response time, relative pay-off for accuracy and correctness of the answer of one person in "
        "439 trials, in three series (Dutilh, Wagenmakers, Visser & van der Maas 2011, Cognitive Science 35:211).",
    ),
    "geyser": _Table(
        ("waiting", "duration"),
        (),
        "Old Faithful geyser, 1 to 15 August 1985: waiting time before and duration of 299 eruptions in turn, in "
        "minutes; durations of 2, 3 and 4 at night stand for short, medium, long "
        "(Azzalini & Bowman 1990, Applied Statistics 39:357).",
    ),
    "sp500_monthly": _Table(
        ("logret",),
        (),
        "Logarithm of the monthly return of the S&P 500 index of shares, February 1950 to January 2012 (Yahoo). "
        "The file has date, prices and volume too.",
    ),
}


def _load(name: str, return_X_y: bool, as_frame: bool) -> Any:
    """Read one file: a Bunch, or a pair if ``return_X_y``."""
    features, classes, about = _TABLES[name]
    path = Path(__file__).parent / "data" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if "corr" in row:  # cor, inc
            row["correct"] = str(float(row["corr"] == "cor"))
    data: Any = np.array([[float(row[column] or "nan") for column in features] for row in rows])
    target: Any = None
    target_names = frame = None
    if classes:
        target_names, target = np.unique([" ".join(row[c] for c in classes) for row in rows], return_inverse=True)
    if as_frame:
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(f"load_{name}(as_frame=True) needs pandas: install it, or drop as_frame") from error
        data = frame = pd.DataFrame(data, columns=list(features))
        if classes:
            target = pd.Series(target, name="target")
            frame = data.assign(target=target)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        feature_names=list(features),
        target_names=target_names,
        frame=frame,
        DESCR=about,
        filename=str(path),
    )


def load_faithful(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Eruptions of the Old Faithful geyser: 272 rows, 2 columns, two kinds of eruption.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (272, 2) float64, ``feature_names``, ``frame``, ``DESCR``, ``filename``; ``target`` is None.

    Examples
    --------
    >>> from emkit.datasets import load_faithful
    >>> load_faithful().data[:2]
    array([[ 3.6, 79. ],
           [ 1.8, 54. ]])
    """
    return _load("faithful", return_X_y, as_frame)


def load_diabetes_reaven_miller(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Chemical and overt diabetes: 145 rows, 3 columns, 3 classes of very different shape.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (145, 3) float64, ``target`` (145,) int64, ``feature_names``, ``target_names``, ``frame``, ``DESCR``,
        ``filename``.

    Examples
    --------
    >>> from emkit.datasets import load_diabetes_reaven_miller
    >>> [str(name) for name in load_diabetes_reaven_miller().target_names]
    ['Chemical', 'Normal', 'Overt']
    """
    return _load("diabetes_reaven_miller", return_X_y, as_frame)


def load_banknote(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Swiss banknotes, genuine and counterfeit: 200 rows, 6 columns, 2 classes.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (200, 6) float64, ``target`` (200,) int64, ``feature_names``, ``target_names``, ``frame``, ``DESCR``,
        ``filename``.

    Examples
    --------
    >>> from emkit.datasets import load_banknote
    >>> [str(name) for name in load_banknote().target_names]
    ['counterfeit', 'genuine']
    """
    return _load("banknote", return_X_y, as_frame)


def load_crabs(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Leptograpsus crabs: 200 rows, 5 strongly correlated columns, 4 classes (species and sex).

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (200, 5) float64, ``target`` (200,) int64, ``feature_names``, ``target_names``, ``frame``, ``DESCR``,
        ``filename``.

    Examples
    --------
    >>> from emkit.datasets import load_crabs
    >>> [str(name) for name in load_crabs().target_names]
    ['B F', 'B M', 'O F', 'O M']
    """
    return _load("crabs", return_X_y, as_frame)


def load_galaxies(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Velocities of 82 galaxies in km/s: one column, and a long dispute about the number of clusters.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (82, 1) float64, ``feature_names``, ``frame``, ``DESCR``, ``filename``; ``target`` is None.

    Examples
    --------
    >>> from emkit.datasets import load_galaxies
    >>> load_galaxies().data[:2]
    array([[9172.],
           [9350.]])
    """
    return _load("galaxies", return_X_y, as_frame)


def load_cement_missing(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Hald's cement with holes: 13 rows, 5 nearly collinear columns, monotone.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (13, 5) float64, NaN where a cell is missing; ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.datasets import load_cement_missing
    >>> print(np.isnan(load_cement_missing().data).sum(), "missing cells")
    15 missing cells
    """
    return _load("cement_missing", return_X_y, as_frame)


def load_apple_crop(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Apple trees: 18 rows, 2 columns, the second missing for the 6 largest crops.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (18, 2) float64, NaN where a cell is missing; ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.datasets import load_apple_crop
    >>> print(np.isnan(load_apple_crop().data).sum(), "missing cells")
    6 missing cells
    """
    return _load("apple_crop", return_X_y, as_frame)


def load_cholesterol(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Cholesterol after a heart attack: 28 rows, 3 columns, the last with holes.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (28, 3) float64, NaN where a cell is missing; ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.datasets import load_cholesterol
    >>> print(np.isnan(load_cholesterol().data).sum(), "missing cells")
    9 missing cells
    """
    return _load("cholesterol", return_X_y, as_frame)


def load_marijuana(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Change of heart rate: 9 rows, 6 columns; without a prior the likelihood has no maximum.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (9, 6) float64, NaN where a cell is missing; ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.datasets import load_marijuana
    >>> print(np.isnan(load_marijuana().data).sum(), "missing cells")
    5 missing cells
    """
    return _load("marijuana", return_X_y, as_frame)


def load_airquality(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """New York air quality: 153 rows, 6 columns, ozone and radiation with holes.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (153, 6) float64, NaN where a cell is missing; ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.datasets import load_airquality
    >>> print(np.isnan(load_airquality().data).sum(), "missing cells")
    44 missing cells
    """
    return _load("airquality", return_X_y, as_frame)


def load_nhanes(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """A health survey in miniature: 25 rows, 4 columns; 7 rows have one observed cell only.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (25, 4) float64, NaN where a cell is missing; ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.datasets import load_nhanes
    >>> print(np.isnan(load_nhanes().data).sum(), "missing cells")
    27 missing cells
    """
    return _load("nhanes", return_X_y, as_frame)


def load_africa(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Six African states: 120 rows, 5 columns whose variances differ by 14 orders of magnitude.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (120, 5) float64, NaN where a cell is missing; ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> import numpy as np
    >>> from emkit.datasets import load_africa
    >>> print(np.isnan(load_africa().data).sum(), "missing cells")
    7 missing cells
    """
    return _load("africa", return_X_y, as_frame)


def load_earthquakes(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Large earthquakes in each year from 1900 to 2006: 107 rows, 1 column.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (107, 1) float64, rows in the order of time, ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> from emkit.datasets import load_earthquakes
    >>> load_earthquakes().data[:2]
    array([[13.],
           [14.]])
    """
    return _load("earthquakes", return_X_y, as_frame)


def load_speed(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Response times of one person, fast guesses or slow answers: 439 rows, 3 columns, 3 series.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (439, 3) float64, rows in the order of time, ``target`` (439,) the series, ``target_names``,
        ``feature_names``, ``frame``, ``DESCR``,
        ``filename``.

    Examples
    --------
    >>> from emkit.datasets import load_speed
    >>> load_speed().data[:2]
    array([[6.45676966, 0.        , 1.        ],
           [5.60211882, 0.        , 1.        ]])
    """
    return _load("speed", return_X_y, as_frame)


def load_geyser(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Waiting times and eruptions of the Old Faithful geyser in turn: 299 rows, 2 columns.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (299, 2) float64, rows in the order of time, ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> from emkit.datasets import load_geyser
    >>> load_geyser().data[:2]
    array([[80.       ,  4.0166667],
           [71.       ,  2.15     ]])
    """
    return _load("geyser", return_X_y, as_frame)


def load_sp500_monthly(*, return_X_y: bool = False, as_frame: bool = False) -> Any:
    """Monthly log-returns of the S&P 500 index, 1950 to 2012: 744 rows, 1 column.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, None)`` instead of a Bunch: these rows have no class.
    as_frame : bool, default=False
        Return pandas objects instead of arrays.

    Returns
    -------
    Bunch or tuple
        ``data`` (744, 1) float64, rows in the order of time, ``feature_names``, ``frame``, ``DESCR``,
        ``filename``; ``target`` is None.

    Examples
    --------
    >>> from emkit.datasets import load_sp500_monthly
    >>> load_sp500_monthly().data[:2]
    array([[0.0099213],
           [0.0040568]])
    """
    return _load("sp500_monthly", return_X_y, as_frame)
