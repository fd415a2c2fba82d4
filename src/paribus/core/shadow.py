"""Deprecated alias of paribus.core.meta, for one more release."""

import warnings

from paribus.core.meta import to_meta as shadow_of

__all__ = ["shadow_of"]
warnings.warn("paribus.core.shadow is now paribus.core.meta, and shadow_of is to_meta", DeprecationWarning, 2)
