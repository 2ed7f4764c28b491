from .reference import *  # noqa
from . import reference
from .missing import expect_missing, infer_missing
BUILD = "numpy reference"
