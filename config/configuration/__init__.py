"""What stands behind `manage.py apply`: a file is read, checked whole, compared and written in one transaction.

`reading` gives the file's tables, `entries` their typed values, `checking` what they mean (every error at once),
`planning` what would change, and `writing` changes it.
"""

from __future__ import annotations

from config.configuration.planning import Action, Change
from config.configuration.problems import ConfigurationError, Problem
from config.configuration.reading import UnreadableFileError, read_configuration
from config.configuration.writing import Applied, ApplyRefusedError, apply_configuration

__all__ = [
    "Action",
    "Applied",
    "ApplyRefusedError",
    "Change",
    "ConfigurationError",
    "Problem",
    "UnreadableFileError",
    "apply_configuration",
    "read_configuration",
]
