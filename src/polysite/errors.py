"""Errors that a user can cause: one clear message, no traceback."""


class PolysiteError(Exception):
    """Something a user can mend: the message names the file, quotes the value and says what to do."""


class ConfigError(PolysiteError):
    """A run's YAML is wrong."""


class DataError(PolysiteError):
    """A scan, table or folder cannot be used as it is."""


class Refusal(PolysiteError):
    """One end of a federation says no to the other; the words tell nothing that is private and may be sent."""


class WireError(Refusal):
    """What arrived is not what was agreed on."""


class PolicyError(Refusal):
    """A hospital's policy does not allow it."""


class CheckpointError(PolysiteError):
    """A stored state is incomplete, altered, or belongs to another run."""
