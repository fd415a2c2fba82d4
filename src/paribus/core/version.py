"""The version of paribus; pyproject.toml reads it here. CHANGELOG.md, CITATION.cff and docs/stability.md say it too."""

__version__ = "0.2.0"
