"""How fast the techniques are here, beside the public implementations installed, each checked before it is timed."""
