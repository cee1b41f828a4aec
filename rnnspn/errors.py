"""What can go wrong in use: one class per kind, each with the exit code the command line gives it."""

_MEMORY_SIGNS = (
    *("failed to allocate memory", "can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation"),
    *("can't start new thread",),
    *("out of memory", "not enough memory", "cudaerrormemoryallocation"),
)


class RnnspnError(Exception):
    """A failure that a person can mend: one line that says what was expected, what came and what to do."""

    exit_code = 2


class ConfigError(RnnspnError, ValueError):
    """A configuration outside the legal values."""


class DataError(RnnspnError):
    """A data set that is missing, damaged or unsuitable."""


class CheckpointError(RnnspnError):
    """A checkpoint or run folder that cannot be read or does not fit."""


class ModelFileError(RnnspnError):
    """An exported model that cannot be read or breaks the contract."""


class OutOfMemoryError(RnnspnError, MemoryError):
    """Too little memory of the processor for a model."""


class MissingPackageError(RnnspnError):
    """A package that an extra would have installed."""


class InputError(RnnspnError):
    """An input path that does not exist."""


class TrainingError(RnnspnError):
    """A training that cannot go on."""


class ParityError(RnnspnError):
    """An export that does not agree with PyTorch; no file was written."""

    exit_code = 3


class ProviderError(RnnspnError):
    """An execution provider that was asked for and cannot run."""

    exit_code = 4


class OutputError(RnnspnError):
    """A place that cannot be written to."""

    exit_code = 5


class InterruptedRunError(RnnspnError):
    """A run that a person or the system has stopped; what is done is kept."""

    exit_code = 130


class ImageError(RnnspnError):
    """One picture that cannot be read: it costs its own record and nothing else.

    Attributes:
        code: A stable word for programs, such as ``"not-an-image"``.
    """

    exit_code = 1

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        """Go from process to process."""
        return type(self), (self.code, str(self))


def is_want_of_memory(error: BaseException) -> bool:
    """Tell by its words, as libraries have no class for it, whether memory was not enough on the processor or GPU."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in words for sign in _MEMORY_SIGNS)
