from __future__ import annotations

from django.db import models


class RunText(models.Model):
    """What an ended run is found by: its words and its facets. Written by the database when the run ends
    (`scheduling.search_index`), never by Django.

    `key` is the run's place in time, so that the newest come first without sorting. A concrete class adds `run`, whose
    related name is `text`.
    """

    key = models.BigIntegerField(primary_key=True)
    body = models.TextField(help_text="Names, message and the first part of the log.")
    facets = models.TextField(help_text="Marked tokens: status, outcome, trigger, host, job, targets.")

    class Meta:
        abstract = True
        # Nobody looks at these rows but the search.
        default_permissions = ()

    def __str__(self) -> str:
        return f"text of run {self.key & 4095}"
