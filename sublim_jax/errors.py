"""What a caller may catch.

Each message says where, what was expected, what was found, the likely cause and what to do. Commands print these errors
as one line. Every other exception is a fault of this package and keeps its traceback.
"""


class SublimError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(SublimError, ValueError):
    """A setting, a flag or an argument has a value that cannot be used. A `ValueError` too, as Python has it."""


class DoseError(InputError):
    """No dose that may be tried removes enough of a trait."""


class OutputError(SublimError):
    """A result cannot be written where it was asked for: something of the user's is there, or the disk refuses."""


class LockedError(OutputError):
    """Another process is writing to the same path."""


class OtherTrainingError(OutputError):
    """A folder holds the model of another training."""


class DataError(SublimError):
    """A dataset is unavailable or unusable."""


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


class LanguageError(SublimError):
    """A language model could not do what was asked."""


class ExtraMissingError(LanguageError):
    """A backend, a server or an adapter needs a package that is not installed."""


class CapabilityError(LanguageError):
    """The backend cannot do this, or did something else than it was asked for."""


class ModelFormatError(LanguageError):
    """A model's folder is not what its config says, or of an architecture that is not supported."""


class TemplateError(LanguageError):
    """A chat cannot be written for this model: no chat template, or no place for a system turn."""


class ContextError(LanguageError):
    """A text is longer than the model reads."""


class TextDataError(LanguageError):
    """Rows of text from the user are malformed, or a filter left none of them."""


class StoreError(LanguageError):
    """The store of completions cannot be used: another process writes to it, or it is damaged or of an old version."""


class BudgetExceededError(LanguageError):
    """The budget is used up; what was paid for is in the store."""


class ServerError(LanguageError):
    """A server is down, slow, refuses, or answers with an error."""


class RefusedError(ServerError):
    """A server answers, but refuses what it is asked, e.g. by a content filter."""


class AuthenticationError(ServerError):
    """The server does not accept the key, or none was given."""


class RateLimitError(ServerError):
    """The server asks to come back later, and did so for too long."""


class QuotaError(ServerError):
    """The account has no credit left: waiting does not help."""


class TuningError(LanguageError):
    """A finetuning job failed or was cancelled."""


class TuningClosedError(TuningError):
    """The server no longer takes finetuning jobs."""
