"""How Sphinx builds the documentation site: `bash scripts/docs.sh`. What is made of the code and of the recorded rows
is in sitebuild/; how a page is added stands at the top of index.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "paribus"
author = copyright = "the authors of paribus"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sitebuild", "sitebuild.repo_links"]
exclude_patterns = ["_build", "sitebuild"]
# a link to a page, a section or a file that does not exist is a warning, and docs.sh takes no warnings
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types in signatures, most of them torch's
myst_heading_anchors = 4

smartquotes = False  # it would make one dash of the two of an option

html_theme = "furo"
html_title = "paribus"
html_static_path = ["_static", "generated/_static"]
html_css_files = ["colours.css", "site.css"]
html_copy_source = html_show_copyright = html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False}

autodoc_typehints_format = "short"
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 90
python_use_unqualified_type_names = True
