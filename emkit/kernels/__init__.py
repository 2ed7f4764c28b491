from .reference import *  # noqa
from . import reference
BUILD = "numpy reference"
