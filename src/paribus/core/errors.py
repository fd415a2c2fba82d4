"""The two ways a run can go wrong: the user's input (exit 2) and the training itself (exit 1).

Messages are one line: where, what was found, what to do. The command line prints them without a traceback.
"""


class ConfigError(ValueError):
    """The input is wrong: a config, a data set, a folder. Nothing has been started or changed."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class RunFailed(RuntimeError):
    """Training went wrong after it had started, e.g. the loss is no longer finite."""
