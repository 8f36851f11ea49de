"""What a caller may catch.

Each message says where, what was expected, what was found, the likely cause and what to do. Bad values of a config or
of a function's argument are plain `ValueError`s, raised where the value is given.
"""


class SublimError(Exception):
    """Base of every error this package raises on purpose, apart from `ValueError` for a bad argument."""


class DataError(SublimError):
    """A dataset could not be had."""


class DataFormatError(DataError):
    """A data file is not what its name says: cut, too long, another format, or a label out of range."""


class ChecksumError(DataFormatError):
    """A well-formed file whose bytes are not the published ones."""


class DataUnavailableError(DataError):
    """No source holds the dataset: no folder was given, the cache is empty and the host does not answer."""


class CacheError(DataError):
    """The cache folder cannot be written."""


class RecordError(SublimError):
    """A record cannot be read, or does not belong to the run that asks for it."""


class EngineError(SublimError):
    """The machines that were asked to do the work are not there."""
