from __future__ import annotations

from django import forms

from backups.services.names import MAX_NAME


class StorageForm(forms.Form):
    """A local folder as a storage; `use_existing` confirms that the folder may hold other files."""

    name = forms.CharField(max_length=MAX_NAME, help_text="What people and commands call it, such as “nas”.")
    path = forms.CharField(
        label="Folder",
        max_length=1000,
        help_text="An absolute path on this machine, such as /srv/backups. It is made when the folder above it exists.",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false", "autocapitalize": "off"}),
    )
    use_existing = forms.BooleanField(
        label="The folder may hold other files already",
        required=False,
        help_text="They are never touched.",
    )
