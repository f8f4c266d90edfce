"""The version of this package, for the files and documents that name it."""

__version__ = "0.1.0"
