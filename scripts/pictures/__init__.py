"""The pictures of README and docs, each made by a module of its own from the code, and kept in docs/pictures/."""
