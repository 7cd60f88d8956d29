"""Every error a user can meet: one sentence that says what was wrong, what was expected, what to do."""

from __future__ import annotations


class FedunlearnError(Exception):
    """Base of all errors of this package; the command line prints its sentence and exits with `exit_status`."""

    exit_status = 1


class SettingsError(FedunlearnError):
    """An argument or a setting is wrong."""

    exit_status = 2


class UnknownName(SettingsError):
    """A name is not in its registry."""


class DataError(FedunlearnError):
    """Data is missing or cannot be used."""


class RequestError(FedunlearnError):
    """A deletion request cannot be filed or served."""


class NoChannels(FedunlearnError):
    """The model has no layer whose channels could be selected."""


class CorruptModel(FedunlearnError):
    """A stored model is damaged, missing or belongs to something else."""


class RunFolderError(FedunlearnError):
    """The run folder is missing, of a newer version, in use, or out of space."""


class ClientError(FedunlearnError):
    """A client raised, hung, died, or sent what it must not."""
