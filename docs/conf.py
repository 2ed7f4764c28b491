"""How the documentation is built. Nothing is downloaded: it builds, and reads well, without a network.

``sphinx-build -W --keep-going docs docs/_build/html`` builds it, with the emkit that is installed. Warnings are errors,
and every reference to a page, a heading or an object must resolve (``nitpicky``). Addresses outside are not visited, so
that machines without a network can build it.
"""

import warnings

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger

import emkit

logger = getLogger(__name__)

project = "emkit"
author = "The emkit developers"
copyright = "the emkit developers"  # Sphinx's own name for it
version = release = emkit.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/**/*.py.md5"]
templates_path = ["_templates"]
nitpicky = True

# API reference: one page for each public class and function
# ----------------------------------------------------------------------------------------------------------------------

autosummary_generate = True
autodoc_typehints = "none"  # types are in the docstrings, with their shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the template of a class lists them
default_role = "py:obj"

# Markdown
# ----------------------------------------------------------------------------------------------------------------------

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

# Gallery
# ----------------------------------------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "parallel": 2,
    "write_computation_times": False,  # a page that fetches scripts
    "within_subsection_order": "FileNameSortKey",
    "reference_url": {"emkit": None},
    "doc_module": ("emkit",),
    "backreferences_dir": "gallery/backreferences",
}
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive", category=UserWarning)

# Pages
# ----------------------------------------------------------------------------------------------------------------------

toc_object_entries_show_parents = "hide"
html_theme = "pydata_sphinx_theme"
html_title = "emkit"
html_static_path = ["_static"]
html_css_files = ["emkit.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "show_prev_next": False,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {page: [] for page in ("index", "migrate", "extend", "changes")}  # they have no pages below them
# Formulas are MathML, which browsers draw themselves: nothing has to be fetched from elsewhere.
html_math_renderer = "mathml"


def _mathml(node, **form):
    try:
        return tex2mathml(node.astext(), **form)
    except MathError as error:
        logger.warning("%s in the formula %s", error, node.astext(), location=node)
        return ""


def _inline_formula(translator, node):
    translator.body.append(_mathml(node))
    raise SkipNode


def _displayed_formula(translator, node):
    translator.body.append(f'<div class="formula">{_mathml(node, as_block=True)}</div>')
    raise SkipNode


def _skip_member(app, what, name, thing, skip, options):
    """Leave out what scikit-learn says better, and classes of parameters."""
    thing = getattr(thing, "__func__", thing)
    if isinstance(thing, type) or (getattr(thing, "__module__", None) or "").startswith("sklearn."):
        return True
    return skip


def setup(app):
    app.add_html_math_renderer("mathml", (_inline_formula, None), (_displayed_formula, None))
    app.connect("autodoc-skip-member", _skip_member)
