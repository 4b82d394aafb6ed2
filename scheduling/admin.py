"""The admin site's manners, shared by every app: history is for looking at, changes go through the services."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, override

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.forms.fields import InvalidJSONInput
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django_apscheduler import admin as apscheduler_admin
from django_apscheduler.models import DjangoJob, DjangoJobExecution

from scheduling.choices import RunTrigger
from scheduling.dispatch import scheduled_dispatch
from scheduling.job_settings import DEFAULTS
from scheduling.ledger import AnotherRunWaitsError
from scheduling.models import ClockAnchor, Host, Pause, SchedulerState

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
else:
    ModelAdmin = admin.ModelAdmin
    ModelForm = forms.ModelForm

admin.site.site_header = "Keepwell administration"
admin.site.site_title = "Keepwell administration"
admin.site.index_title = "Records"
admin.site.enable_nav_sidebar = False

# Its "run" action would run jobs inside the request, and its history would compete with the runs.
for model in (DjangoJob, DjangoJobExecution):
    apscheduler_admin.admin.site.unregister(model)


class ReadOnlyAdmin(ModelAdmin):
    """Records that are written by running jobs, and by nothing else."""

    show_full_result_count = False
    view_on_site = False
    actions = None

    @override
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    @override
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @override
    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class PlainJSONField(forms.JSONField):
    """Refuses what JSON can spell and neither a database nor a page can hold: half of a surrogate pair."""

    @override
    def to_python(self, value: Any) -> Any:
        document = super().to_python(value)
        if not self._is_text(document):
            raise ValidationError("This holds half of a surrogate pair, which is not a character.")
        return document

    @override
    def bound_data(self, data: Any, initial: Any) -> Any:
        document = super().bound_data(data, initial)
        return document if self._is_text(document) else InvalidJSONInput(data)

    @staticmethod
    def _is_text(document: object) -> bool:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            return False
        return True


class ServiceForm(ModelForm):
    """Parses and never writes. What the service refused on the first attempt is shown on the second.

    `error_fields` says where messages go whose key is not a field of this form.
    """

    error_fields: ClassVar[dict[str, str]] = {}
    refusal: ClassVar[ValidationError | None] = None

    def _post_clean(self) -> None:
        """Show the refusal. The instance stays as it is stored: the service checks and changes it."""
        if self.refusal is None:
            return
        if not hasattr(self.refusal, "error_dict"):
            self.add_error(None, self.refusal)
            return
        for key, texts in self.refusal.message_dict.items():
            field = self.error_fields.get(key, key.partition(".")[0])
            rule = key.partition(".")[2]
            self.add_error(
                field if field in self.fields else None,
                [ValidationError(f"{rule}: {text}" if rule else text) for text in texts],
            )


class JobServiceForm(ServiceForm):
    """A job of either kind; none of its settings has to be filled in, and one that was not sent at all stays."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in DEFAULTS:
            if name in self.fields:
                self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        return {name: value for name, value in cleaned.items() if name not in DEFAULTS or name in self.data}


class ServiceAdmin(ModelAdmin):
    """Adding, changing and deleting through the services; a refusal is a message on the page, never an error page.

    A subclass says how in `service_save` and `service_delete`, both of which may raise ValidationError.
    """

    form = ServiceForm
    formfield_overrides = {models.JSONField: {"form_class": PlainJSONField}}
    view_on_site = False
    fixed_fields: ClassVar[tuple[str, ...]] = ()  # set when the row is added, and never changed

    def service_save(self, *, stored: Any, values: dict[str, Any]) -> models.Model:
        """Add a row (`stored` is None) or change one, from the form's values, and return it as it is now."""
        raise NotImplementedError

    def service_delete(self, stored: Any) -> None:
        """Delete a row."""
        raise NotImplementedError

    @override
    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.readonly_fields, *(self.fixed_fields if obj is not None else ()))

    @override
    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"refusal": getattr(request, "service_refusal", None)})

    @override
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except ValidationError as refusal:
            # The transaction was rolled back; the same form is shown again, with the reasons.
            request.service_refusal = refusal  # type: ignore[attr-defined]
            return super().changeform_view(request, *args, **kwargs)

    @override
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        stored = self.model._default_manager.get(pk=obj.pk) if change else None
        saved = self.service_save(stored=stored, values=form.cleaned_data)
        obj.pk = saved.pk
        obj.refresh_from_db()

    @override
    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: the service saved what belongs to the row."""

    @override
    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.service_delete(obj)

    @override
    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """All of them or, when one is refused, none."""
        with transaction.atomic():
            for row in queryset:
                self.service_delete(row)

    @override
    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        try:
            return super().delete_view(request, object_id, extra_context)
        except ValidationError as refusal:
            return self._refused(request, refusal)

    @override
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        try:
            return super().changelist_view(request, extra_context)
        except ValidationError as refusal:
            return self._refused(request, refusal)

    @override
    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Only the rows themselves: what stands in the way is the service's to say, and may be very many rows."""
        return [str(row) for row in objs], {self.opts.verbose_name_plural: len(objs)}, set(), []

    def _refused(self, request: HttpRequest, refusal: ValidationError) -> HttpResponseBase:
        self.message_user(request, " ".join(refusal.messages), messages.ERROR)
        return redirect(request.get_full_path() if request.method == "GET" else request.path.partition("delete/")[0])


class RunNowAdmin(ServiceAdmin):
    """Jobs of either kind: the action records runs, which the scheduler process starts."""

    run_kind: ClassVar[str]
    run_permission: ClassVar[str]
    actions = ("run_now",)
    readonly_fields = ("paused_until", "paused_by")

    def has_run_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(self.run_permission)

    @admin.action(permissions=["run"], description="Run now")
    def run_now(self, request: HttpRequest, queryset: Iterable[Any]) -> None:
        """Record a run of each selected job."""
        count, who = 0, request.user.get_username()
        for job in queryset:
            try:
                run = scheduled_dispatch(self.run_kind, job.pk, trigger=RunTrigger.MANUAL, requested_by=who)
            except AnotherRunWaitsError as error:
                self.message_user(request, " ".join(error.messages), messages.ERROR)
            else:
                count += run is not None
        waiting = "1 run is" if count == 1 else f"{count} runs are"
        self.message_user(request, f"{waiting} waiting for the scheduler to start.", messages.SUCCESS)


@admin.register(SchedulerState)
class SchedulerStateAdmin(ReadOnlyAdmin):
    list_display = ("hostname", "pid", "started_at", "seen_at")


@admin.register(ClockAnchor)
class ClockAnchorAdmin(ReadOnlyAdmin):
    list_display = ("host", "wall", "noticed_at", "confirmed_by", "confirmed_at")


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    list_display = ("hostname", "host", "version", "queues", "started_at", "seen_at")


@admin.register(Pause)
class PauseAdmin(ReadOnlyAdmin):
    list_display = ("until", "by", "reason", "since")
