"""The version of the package, apart from it, so that any module can read it."""

__version__ = "0.2.0"
