"""Fitted estimators as files: pickles that know their version, and plain dictionaries that any language can read.

A dictionary holds nothing but what JSON has: null, booleans, numbers, strings, lists and objects. What JSON lacks is
written as an object with a ``type``::

    {"type": "float", "value": "nan"}                                      also "inf" and "-inf"
    {"type": "int", "value": "36893488147419103232"}                       beyond what a double holds exactly
    {"type": "array", "dtype": "float64", "shape": [2, 3], "data": [...]}  in C order; "nan", "inf", "-inf" as strings
    {"type": "tuple", "items": [...]}, {"type": "dict", "items": {...}}
    {"type": "object", "class": "emkit.emissions.poisson.Poisson", "fields": {...}}

Reading builds nothing but these, and objects of classes that emkit has loaded already or that the caller hands over.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ._arrays import bring, is_elsewhere
from ._charts import pack, unpack
from ._model import Emission, Model
from ._show_versions import __version__
from ._validation import Rules, check_parameter, check_parameters
from .exceptions import InconsistentVersionWarning, warn

Array = NDArray[Any]
Classes = Mapping[str, type]

_FORMAT = 1
_KEYS = ("format", "emkit_version", "class", "parameters", "fitted")
# Attributes whose classes are emkit's own affair: pickles hold their plain description.
_INNER = ("_used", "_kind", "_stream")
# What belongs to a session, not to an estimator: callbacks, and requests of metadata.
_LEFT_OUT = ("_skl_callbacks", "_callback_error", "_metadata_request")
_DTYPES = (
    "bool",
    "str",
    "object",
    "float16",
    "float32",
    "float64",
    *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)),
)
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_EXACT = 2**53  # integers up to here are doubles
_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")
_SEEDS = "numpy.random."
_LARGEST_POOL = 1024  # mixing takes its square
# Integers in the state of a bit generator lie below these.
_BELOW = {"pos": 625, "buffer_pos": 5, "has_uint32": 2, "has_gauss": 2, "uinteger": 2**32} | dict.fromkeys(
    ("state", "inc"), 2**128
)


class Persistent:
    """What lets an estimator be written and read again."""

    _rules: ClassVar[Rules]
    _fitted_rules: ClassVar[Rules]  # of attributes that a fit sets

    def __getstate__(self) -> dict[str, Any]:
        """Attributes, those of private classes described, and the version."""
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        for name in _INNER:
            if name in state:
                state[name] = describe(state[name], name, as_is=True)
        return state | {"_emkit_version": __version__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the attributes; warn of another version."""
        state = dict(state)
        _check_version(type(self).__name__, state.pop("_emkit_version", "an unknown version"))
        classes = _own_classes()
        for name in _INNER:
            if name in state:
                state[name] = rebuild(state[name], name, classes, as_is=True)
        self.__dict__.update(state)

    def to_dict(self) -> dict[str, Any]:
        """Write the estimator, fitted or not, as a dictionary that JSON can hold.

        Constructor parameters, fitted attributes and what ``partial_fit`` needs to go on are kept; callbacks and
        requests of metadata are not. Numbers are exact: an estimator that is read again gives the same answers, bit
        for bit. The size depends on the number of rows through ``labels_`` only.

        Returns
        -------
        dict
            ``format`` (1), ``emkit_version``, ``class``, ``parameters``, ``fitted`` and ``checksum``; null, booleans,
            numbers, strings, lists and dictionaries all the way down, so that
            ``json.dumps(..., allow_nan=False)`` works. Anything else is a dictionary with a ``type``, described on the
            page "Keeping a fit" of the documentation.

        Raises
        ------
        ValueError
            For a value that cannot be written, such as a function or a list that holds itself; the message names it.

        See Also
        --------
        from_dict : The inverse.

        Examples
        --------
        >>> import json
        >>> from emkit import EMGaussianMixture
        >>> from emkit.datasets import load_faithful
        >>> X = load_faithful().data
        >>> mixture = EMGaussianMixture(2, random_state=0).fit(X)
        >>> text = json.dumps(mixture.to_dict(), allow_nan=False)
        >>> again = EMGaussianMixture.from_dict(json.loads(text))
        >>> bool((again.predict_proba(X) == mixture.predict_proba(X)).all())
        True
        """
        parameters = self.get_params(deep=False)  # type: ignore[attr-defined]
        fitted = {name: value for name, value in vars(self).items() if name not in (*parameters, *_LEFT_OUT)}
        whole = {
            "format": _FORMAT,
            "emkit_version": __version__,
            "class": type(self).__name__,
            "parameters": {name: _describe_all(value, f"parameters.{name}") for name, value in parameters.items()},
            "fitted": {name: _describe_all(value, f"fitted.{name}") for name, value in fitted.items()},
        }
        return whole | {"checksum": _checksum(whole)}

    @classmethod
    def from_dict(cls, dictionary: Mapping[str, Any], *, classes: Iterable[type] = ()) -> Self:
        """Make an estimator from what ``to_dict`` wrote.

        Nothing in the dictionary is executed or imported. Its numbers are checked against its checksum, if it has one
        (leave it out after a change by hand), its parameters as ``fit`` checks them, and its fitted attributes by
        using them once.

        Parameters
        ----------
        dictionary : dict
            What ``to_dict`` returned, perhaps by way of JSON.
        classes : iterable of type, default=()
            Classes of your own that the estimator holds: an `emkit.emissions.Emission` and the NamedTuple of its
            parameters.

        Returns
        -------
        estimator
            Of the class it is called on.

        Raises
        ------
        TypeError
            If ``classes`` holds what is not a class.
        ValueError
            If the dictionary is not whole, has been changed, or is of another class; the message names the field.

        Warns
        -----
        InconsistentVersionWarning
            If another version of emkit wrote it.

        Examples
        --------
        >>> from emkit import EMImputer
        >>> EMImputer.from_dict(EMImputer(prior="ridge").to_dict())
        EMImputer(prior='ridge')
        """
        handed: Any = classes
        given = list(handed) if np.iterable(handed) else [handed]
        wrong = [c for c in given if not isinstance(c, type)]
        if wrong:
            raise TypeError(f"classes must be a list of classes, but holds {wrong[0]!r}; the default is an empty list")
        try:
            return cls._from_dict(dictionary, _own_classes() | {c.__name__: c for c in given})
        except RecursionError as error:
            raise ValueError("dictionary is nested too deeply to be one that to_dict wrote") from error

    @classmethod
    def _from_dict(cls, dictionary: Mapping[str, Any], classes: Classes) -> Self:
        found = _require(dictionary, "dictionary", dict, _KEYS, optional=("checksum",))
        if found["format"] != _FORMAT or isinstance(found["format"], bool):
            raise ValueError(f"format is {found['format']!r}; this version of emkit reads format {_FORMAT}")
        if found["class"] != cls.__name__:
            raise ValueError(f"class is {found['class']!r}; read it with the from_dict of that class")
        known = cls().get_params(deep=False)  # type: ignore[attr-defined]
        given = _require(found["parameters"], "parameters", dict, known)
        parameters = {name: rebuild(value, f"parameters.{name}", classes) for name, value in given.items()}
        fitted = {}
        for name, value in _require(found["fitted"], "fitted", dict).items():
            if not name.isidentifier() or name.startswith("__") or hasattr(cls, name) or name in (*known, *_LEFT_OUT):
                raise ValueError(f"fitted.{name} is not an attribute that a fit sets")
            fitted[name] = rebuild(value, f"fitted.{name}", classes)
        version = _require(found["emkit_version"], "emkit_version", str)
        checksum = {name: value for name, value in found.items() if name != "checksum"}
        if "checksum" in found and found["checksum"] != _checksum(checksum):
            raise ValueError(
                "checksum does not belong to the rest of the dictionary: it is damaged, or was changed; leave the "
                "checksum out if the change was meant"
            )
        estimator = cls(**parameters)
        check_parameters(estimator, cls._rules)
        _check_version(cls.__name__, version)
        estimator.__dict__.update(fitted)
        if any(name.endswith("_") for name in fitted):
            estimator._try_out(by_hand="checksum" not in found)
        return estimator

    def _try_out(self, *, by_hand: bool) -> None:
        """Use the fitted attributes once, so that those that do not belong together are found now."""
        try:
            for name, allowed in self._fitted_rules.items():
                check_parameter(type(self).__name__, name, vars(self).get(name), allowed, "attribute")
            width = self.n_features_in_  # type: ignore[attr-defined]
            names = vars(self).get("feature_names_in_")
            if names is not None and not (np.shape(names) == (width,) and all(isinstance(n, str) for n in names)):
                raise ValueError(f"feature_names_in_ must hold n_features_in_={width} names")
            params, charts = self._recall(), self._used.charts  # type: ignore[attr-defined]
            self._fitted_model().n_parameters(params)  # type: ignore[attr-defined]
            fault = _fault(params, unpack(pack(params, charts), charts, params))
            if fault is None:
                again = copy(self)
                again._publish(params)  # type: ignore[attr-defined]
                torn = _torn(vars(self), vars(again)) if by_hand else None
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # names of features, holes
                    self._score_a_draw()
        except Exception as error:  # whatever the wrong kind of attribute leads to
            raise ValueError(f"fitted attributes do not belong together: {type(error).__name__}: {error}") from error
        if fault is not None:
            raise ValueError(f"fitted attributes are not valid parameters: {fault} lies outside its range")
        if torn is not None:
            raise ValueError(f"fitted attributes do not belong together: {torn} contradicts what it is computed from")

    def _score_a_draw(self) -> None:
        """Draw a row and take its log-density."""
        drawn = self.sample(1, random_state=0)  # type: ignore[attr-defined]
        rows = drawn[0] if isinstance(drawn, tuple) else drawn
        self._infer(rows, "log_density")  # type: ignore[attr-defined]


def _describe_all(value: Any, where: str) -> Any:
    try:
        return describe(value, where)
    except RecursionError as error:
        raise ValueError(f"{where} is nested without end, or too deeply: a dictionary cannot hold it") from error


def describe(value: Any, where: str, *, as_is: bool = False) -> Any:
    """Describe a value in JSON's terms; with ``as_is``, arrays and objects of foreign classes are left as they are."""
    if value is None or isinstance(value, bool | str) or (as_is and isinstance(value, np.ndarray)):
        return value
    if is_elsewhere(value) and not isinstance(value, np.generic):
        value = bring(value)
    if isinstance(value, np.generic):
        return describe(value.item(), where, as_is=as_is)
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else {"type": "int", "value": str(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"type": "float", "value": _spell(value)}
    if isinstance(value, np.ndarray):
        return _describe_array(value, where)
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {"type": "dict", "items": {n: describe(v, f"{where}.{n}", as_is=as_is) for n, v in value.items()}}
    if type(value) is list:
        return [describe(v, f"{where}[{i}]", as_is=as_is) for i, v in enumerate(value)]
    if type(value) is tuple or isinstance(value, range):
        return {"type": "tuple", "items": [describe(v, f"{where}[{i}]", as_is=as_is) for i, v in enumerate(value)]}
    parts = _parts(value)
    if as_is and (parts is None or not type(value).__module__.startswith("emkit.")):
        return value
    if parts is not None:
        content = {name: describe(v, f"{where}.{name}", as_is=as_is) for name, v in parts.items()}
        return {"type": "object", "class": _name(type(value)), "fields": content}
    if hasattr(value, "__array__"):  # a table of another library
        return _describe_array(np.asarray(value), where)
    raise ValueError(f"{where} is a {type(value).__name__}, which a dictionary cannot hold; pickle can")


def rebuild(description: Any, where: str, classes: Classes, *, as_is: bool = False) -> Any:
    """Undo ``describe``; with ``as_is``, what is not a description is left as it is."""
    if description is None or isinstance(description, bool | int | str):
        return description
    if isinstance(description, float) and (as_is or math.isfinite(description)):
        return description
    if isinstance(description, list):
        return [rebuild(v, f"{where}[{i}]", classes, as_is=as_is) for i, v in enumerate(description)]
    if not isinstance(description, dict):
        if as_is:
            return description
        raise ValueError(f"{where} is {description!r}, which JSON does not have")
    kind = description.get("type")
    if kind == "float":
        spelled = _require(description, where, dict, ("type", "value"))["value"]
        if not isinstance(spelled, str) or spelled not in _NOT_FINITE:
            raise ValueError(f"{where}.value is {spelled!r}; a float that JSON lacks is 'nan', 'inf' or '-inf'")
        return _NOT_FINITE[spelled]
    if kind == "int":
        digits = _require(_require(description, where, dict, ("type", "value"))["value"], f"{where}.value", str)
        if not digits.removeprefix("-").isdecimal() or len(digits) > 1000:
            raise ValueError(f"{where}.value is {digits[:40]!r}, which is not an integer")
        return int(digits)
    if kind == "array":
        return _rebuild_array(_require(description, where, dict, ("type", "dtype", "shape", "data")), where, classes)
    if kind == "tuple":
        items = _require(_require(description, where, dict, ("type", "items"))["items"], f"{where}.items", list)
        return tuple(rebuild(v, f"{where}[{i}]", classes, as_is=as_is) for i, v in enumerate(items))
    if kind == "dict":
        parts = _require(_require(description, where, dict, ("type", "items"))["items"], f"{where}.items", dict)
        return {name: rebuild(v, f"{where}.{name}", classes, as_is=as_is) for name, v in parts.items()}
    if kind == "object":
        found = _require(description, where, dict, ("type", "class", "fields"))
        content = _require(found["fields"], f"{where}.fields", dict)
        named = {name: rebuild(v, f"{where}.{name}", classes, as_is=as_is) for name, v in content.items()}
        return _make(found["class"], named, where, classes)
    raise ValueError(f"{where}.type is {kind!r}; it must be one of array, dict, float, int, object, tuple")


def _describe_array(array: Array, where: str) -> dict[str, Any]:
    kind = "str" if array.dtype.kind == "U" else array.dtype.name
    if kind not in _DTYPES:
        raise ValueError(f"{where} is an array of {array.dtype}, which a dictionary cannot hold; pickle can")
    data = array.ravel().tolist()
    if kind == "object":
        data = [describe(v, f"{where}[{i}]") for i, v in enumerate(data)]
    elif array.dtype.kind == "f" and not np.isfinite(array).all():
        data = [v if math.isfinite(v) else _spell(v) for v in data]
    return {"type": "array", "dtype": kind, "shape": list(array.shape), "data": data}


def _rebuild_array(found: dict[str, Any], where: str, classes: Classes) -> Array:
    dtype, shape, data = found["dtype"], found["shape"], _require(found["data"], f"{where}.data", list)
    if dtype not in _DTYPES:
        raise ValueError(f"{where}.dtype is {dtype!r}; it must be one of {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError(f"{where}.shape is {shape!r}; it must be a list of lengths")
    if len(data) != math.prod(shape):
        raise ValueError(f"{where}.data has {len(data)} entries, but shape {shape} needs {math.prod(shape)}")
    if dtype == "object":
        array = np.empty(len(data), dtype=object)
        array[:] = [rebuild(v, f"{where}[{i}]", classes) for i, v in enumerate(data)]
        return array.reshape(shape)
    kind = np.dtype(dtype).kind
    allowed = {"f": (float, int), "b": (bool,), "U": (str,)}.get(kind, (int,))
    values = [_NOT_FINITE.get(v, v) if isinstance(v, str) else v for v in data] if kind == "f" else data
    for i, v in enumerate(values):
        if not isinstance(v, allowed) or (isinstance(v, bool) and kind != "b"):
            raise ValueError(f"{where}.data[{i}] is {v!r}, which is not of dtype {dtype}")
    try:
        with np.errstate(over="raise"):
            return np.array(values, dtype=dtype).reshape(shape)
    except (OverflowError, FloatingPointError, ValueError) as error:
        raise ValueError(f"{where}.data does not fit into dtype {dtype} and shape {shape}: {error}") from error


def _spell(value: float) -> str:
    return "nan" if math.isnan(value) else "inf" if value > 0.0 else "-inf"


def _parts(value: Any) -> dict[str, Any] | None:
    """What an object is made of, by name; None if it is not of a kind that can be made anew."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {str(name): part for name, part in zip(value._fields, value, strict=True)}
    if isinstance(value, Model | Emission):
        return {name: getattr(value, name) for name in _field_names(type(value), vars(value))}
    if isinstance(value, np.random.SeedSequence):
        return {name: getattr(value, name) for name in ("entropy", "spawn_key", "pool_size", "n_children_spawned")}
    if isinstance(value, np.random.Generator):
        return {"state": value.bit_generator.state}
    if isinstance(value, np.random.RandomState):
        return {"state": value.get_state(legacy=False)}
    return None


def _make(name: Any, parts: dict[str, Any], where: str, classes: Classes) -> Any:
    """Undo ``_parts``."""
    try:
        if name == _SEEDS + "SeedSequence":
            if not (type(parts["pool_size"]) is int and 4 <= parts["pool_size"] <= _LARGEST_POOL):
                raise ValueError(f"pool_size is {parts['pool_size']!r}; it must be from 4 to {_LARGEST_POOL}")
            return np.random.SeedSequence(**parts)
        if name in (_SEEDS + "Generator", _SEEDS + "RandomState"):
            state = _require(parts, f"{where}.fields", dict, ("state",))["state"]
            return _random(name.removeprefix(_SEEDS), state, f"{where}.state")
        cls = classes.get(name) if isinstance(name, str) else None
        if cls is None:
            raise ValueError(
                f"{where}.class is {name!r}, which is not a class of emkit's; if it is your own, hand it over: "
                "from_dict(..., classes=[...])"
            )
        wanted = _field_names(cls, parts)
        _require(parts, f"{where}.fields", dict, wanted)
        if issubclass(cls, tuple):
            return cls._make(parts[name] for name in wanted)  # type: ignore[attr-defined]
        if is_dataclass(cls):
            return cls(**parts)
        made = object.__new__(cls)
        vars(made).update(parts)
        return made
    except Exception as error:  # whatever a constructor says of the wrong kind of value
        text = str(error)
        raise ValueError(text if text.startswith(where) else f"{where}.fields cannot be used: {text}") from error


def _field_names(cls: type, parts: Mapping[str, Any]) -> list[str]:
    """Names that the parts of an object of this class must have."""
    if is_dataclass(cls):
        return [field.name for field in fields(cls)]
    if isinstance(named := getattr(cls, "_fields", None), tuple):
        return list(named)
    return [str(i) for i in range(len(parts))] if issubclass(cls, tuple) else list(parts)


def _random(kind: str, state: Any, where: str) -> Any:
    """Random numbers that go on where they stood."""
    name = _require(state, where, dict).get("bit_generator")
    if name not in _BIT_GENERATORS:
        raise ValueError(f"{where}.bit_generator is {name!r}; it must be one of {', '.join(_BIT_GENERATORS)}")
    bits = getattr(np.random, name)(0)
    if kind == "Generator":
        _check_state(state, bits.state, where)
        bits.state = state
        return np.random.Generator(bits)
    random = np.random.RandomState(bits)
    _check_state(state, random.get_state(legacy=False), where)
    random.set_state(state)
    return random


def _check_state(state: Any, like: Mapping[str, Any], where: str) -> None:
    """Refuse what a bit generator cannot be in: NumPy takes it as it is, reads outside its memory, or never ends."""
    _require(state, where, dict, like)
    for name, part in like.items():
        value, place = state[name], f"{where}.{name}"
        if isinstance(part, dict):
            _check_state(value, part, place)
        elif isinstance(part, np.ndarray):
            same = isinstance(value, np.ndarray) and (value.shape, value.dtype) == (part.shape, part.dtype)
            if not same or (name == "key" and "pos" in like and not value.any()):
                raise ValueError(f"{place} must be an array of shape {part.shape} and dtype {part.dtype}, not all zero")
        elif name == "gauss":
            if not isinstance(value, float | int) or not math.isfinite(value):
                raise ValueError(f"{place} is {value!r}; it must be a finite number")
        elif name in _BELOW and not (type(value) is int and 0 <= value < _BELOW[name]):
            raise ValueError(f"{place} is {value!r}; it must be an integer from 0 to {_BELOW[name] - 1}")
        elif name == "inc" and value % 2 == 0:
            raise ValueError(f"{place} is {value}; it must be odd")


def _own_classes() -> dict[str, type]:
    """Models, laws, and records of parameters and statistics, of the modules of emkit that are loaded."""
    return {
        _name(value): value
        for module, content in list(sys.modules.items())
        if module.startswith("emkit.")
        for value in vars(content).values()
        if isinstance(value, type) and value.__module__ == module and issubclass(value, tuple | Model | Emission)
    }


def _name(cls: type) -> str:
    """Name of a class in a file: in full for emkit's own and NumPy's, else as it is."""
    if issubclass(cls, np.random.SeedSequence | np.random.Generator | np.random.RandomState):
        return _SEEDS + cls.__name__
    return f"{cls.__module__}.{cls.__name__}" if cls.__module__.startswith("emkit.") else cls.__name__


def _require(
    value: Any, where: str, kind: type, names: Iterable[str] | None = None, optional: Iterable[str] = ()
) -> Any:
    """Give the value back if it is of a kind and, being a dictionary, has exactly these names."""
    if not issubclass(type(value), kind):
        raise ValueError(f"{where} is a {type(value).__name__}, not a {kind.__name__}")
    if kind is dict and not all(isinstance(name, str) for name in value):
        raise ValueError(f"{where} has a key that is not a string")
    if names is not None:
        wanted, present = set(names), set(value)
        missing, strange = wanted - present, present - wanted - set(optional)
        if missing:
            raise ValueError(f"{where} lacks {', '.join(map(repr, sorted(missing)))}: the dictionary is not whole")
        if strange:
            raise ValueError(f"{where} has {', '.join(map(repr, sorted(strange)))}, which does not belong there")
    return value


def _fault(params: Any, again: Any) -> str | None:
    """Name the first field that its chart does not give back: it is outside the range of such parameters."""
    for name, value, other in zip(params._fields, params, again, strict=True):
        if hasattr(value, "_fields"):
            inner = _fault(value, other)
            if inner is not None:
                return inner
            continue
        size = np.abs(value).max(initial=0.0)
        if not np.isfinite(size) or not np.allclose(value, other, rtol=1e-6, atol=1e-9 * size):
            return str(name)
    return None


def _torn(attributes: Mapping[str, Any], again: Mapping[str, Any]) -> str | None:
    """Name the first attribute that is published otherwise than it is."""
    for name, other in again.items():
        value: Any = attributes.get(name)
        if isinstance(other, np.ndarray) and other.dtype.kind == "f":
            size = 1e-3 * np.abs(other).max(initial=0.0)  # inverses lose digits
            same = np.shape(value) == other.shape and np.allclose(np.asarray(value, dtype=float), other, atol=size)
        else:
            same = not isinstance(other, np.ndarray | str | bool) or np.array_equal(value, other)
        if not same:
            return name
    return None


def _checksum(whole: Mapping[str, Any]) -> str:
    """SHA-256 of the JSON text: names sorted, no spaces, numbers without a fraction as integers."""
    text = json.dumps(_plain(whole), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT else value


def _check_version(name: str, version: str) -> None:
    if version != __version__:
        warn(
            f"{name} was saved by emkit {version} and is read by emkit {__version__}: it may not work, or give other "
            "answers; install that version, or fit anew",
            InconsistentVersionWarning,
        )
