"""What holds for every template, and the filters and includes that pages share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django import forms
from django.contrib.messages import constants
from django.contrib.messages.storage.base import Message
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.urls import URLPattern, URLResolver, include, path, resolve
from django.utils import timezone

from scheduling.choices import RunOutcome, RunStatus
from scheduling.templatetags import keepwell

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
CSS = (ROOT / "static" / "css" / "keepwell.css").read_text(encoding="utf-8")
NB = "\u00a0"

INLINE_CODE = {
    "a style element": re.compile(r"<style\b", re.IGNORECASE),
    "a style attribute": re.compile(r"\sstyle\s*=", re.IGNORECASE),
    "an event attribute": re.compile(r"<[^>]*\son[a-z]+\s*=", re.IGNORECASE),
    "a script without src": re.compile(r"<script\b(?![^>]*\ssrc\s*=)", re.IGNORECASE),
    "a javascript: address": re.compile(r"javascript:", re.IGNORECASE),
    "hx-on": re.compile(r"\s(?:data-)?hx-on\b", re.IGNORECASE),
    "a js: value for htmx": re.compile(r"""hx-[a-z]+\s*=\s*["'](?:js|javascript):""", re.IGNORECASE),
    "an address on another origin": re.compile(r"""<(?:script|link|img)\b[^>]*(?:src|href)\s*=\s*["'](?:https?:)?//"""),
}


def _inline_code(source: str) -> list[str]:
    return [what for what, pattern in INLINE_CODE.items() if pattern.search(source)]


# --- Every template -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: str(template.relative_to(ROOT)))
def test_a_table_has_the_class_that_folds_it_on_a_narrow_screen(template: Path) -> None:
    tables = re.findall(r"<table[^>]*>", template.read_text(encoding="utf-8"))
    assert [table for table in tables if "table" not in table.partition("class=")[2]] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: str(template.relative_to(ROOT)))
def test_a_template_has_no_inline_code(template: Path) -> None:
    assert _inline_code(template.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "<style>p{}</style>",
        '<p\nstyle="color:red">',
        '<button type="button" onclick="go()">',
        "<script>go()</script>",
        '<a href="javascript:go()">',
        '<p hx-on:click="go()">',
        """<p hx-vals='js:{a: 1}'>""",
        '<script src="https://cdn.example/x.js"></script>',
    ],
)
def test_the_search_for_inline_code_finds_it(source: str) -> None:
    assert _inline_code(source) != []


def test_the_stylesheet_loads_nothing_and_has_its_layers_in_order() -> None:
    assert "@layer reset, tokens, base, layout, components, utilities;" in CSS
    assert not re.search(r"@import|url\(", CSS)


# --- The frame ----------------------------------------------------------------------------------------------------


def _page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(render_to_string("base.html", {"request": request}))


def _app(name: str, *names: str) -> URLResolver:
    patterns: list[URLPattern] = [path(f"{entry}/", _page, name=entry) for entry in names]
    return path(f"{name}/", include((patterns, name)))


urlpatterns = [
    path("", _page, name="dashboard"),
    _app(
        "backups",
        "target_list",
        "target_detail",
        "job_list",
        "backup_list",
        "trash_list",
        "audit_list",
        "storage_list",
        "run_detail",
    ),
    _app("scheduling", "run_list", "calendar", "host_list"),
    _app("maintenance", "options_edit", "job_list"),
    _app("accounts", "token_list", "logout"),
    _app("admin", "index"),
]


@dataclass(frozen=True, kw_only=True)
class Person:
    is_authenticated: bool = True
    is_staff: bool = False

    def get_username(self) -> str:
        return "<marguerite>"


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    alive: bool
    text: str


class Links(HTMLParser):
    """Collects each link's address with its aria-current."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found[dict(attrs)["href"] or ""] = dict(attrs).get("aria-current")


def _frame(address: str = "/", **context: Any) -> str:
    request = RequestFactory().get(address)
    request.resolver_match = resolve(address)
    return render_to_string("base.html", {"request": request, "user": Person(), **context})


def _current(html: str) -> dict[str, str]:
    links = Links()
    links.feed(html)
    return {address: current for address, current in links.found.items() if current}


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(
    ("address", "current"),
    [
        ("/", {"/": "page"}),
        ("/backups/target_list/", {"/backups/target_list/": "page"}),
        ("/backups/target_detail/", {"/backups/target_list/": "true"}),
        ("/maintenance/job_list/", {"/maintenance/job_list/": "page"}),
        ("/backups/run_detail/", {"/scheduling/run_list/": "true"}),
    ],
)
def test_the_sidebar_marks_the_current_page_once(address: str, current: dict[str, str]) -> None:
    assert _current(_frame(address)) == current


@pytest.mark.urls(__name__)
@pytest.mark.parametrize(("is_staff", "shown"), [(True, True), (False, False)], ids=["staff", "others"])
def test_the_admin_site_is_linked_for_staff_only(is_staff: bool, shown: bool) -> None:
    assert ("/admin/index/" in _frame(user=Person(is_staff=is_staff))) is shown


@pytest.mark.urls(__name__)
def test_the_foot_tells_the_version_and_whether_the_scheduler_lives() -> None:
    html = _frame(app_version="1.2.3", scheduler_state=Heartbeat(alive=False, text="scheduler not seen for 14 min"))
    assert "Keepwell 1.2.3" in html
    assert 'data-alive="no"' in html
    assert "scheduler not seen for 14 min" in html


@pytest.mark.urls(__name__)
def test_the_frame_has_no_inline_code_once_rendered_and_escapes_names() -> None:
    html = _frame()
    assert _inline_code(html) == []
    assert "&lt;marguerite&gt;" in html
    assert html.count("<h1") == 1
    assert html.index('class="skip"') < html.index('class="sidebar"')


@pytest.mark.parametrize("name", ["400.html", "403.html", "403_csrf.html", "404.html", "500.html"])
def test_an_error_page_renders_without_any_context(name: str) -> None:
    html = render_to_string(name)
    assert "layout-plain" in html
    assert 'class="sidebar"' not in html
    assert 'href="/"' in html


# --- Statuses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [*RunStatus.values, *RunOutcome.values])
def test_a_badge_shows_word_shape_and_colour(status: str) -> None:
    html = render_to_string("includes/badge.html", {"status": status})
    assert f'data-status="{status}"' in html
    assert keepwell.status_word(status) in html
    assert "<svg" in html
    assert 'aria-hidden="true"' in html
    assert _inline_code(html) == []


@pytest.mark.parametrize("status", sorted(keepwell.STATUS_SHAPES))
def test_every_status_has_a_colour_in_the_stylesheet(status: str) -> None:
    assert f'[data-status="{status}"]' in CSS


@pytest.mark.parametrize("status", [*RunStatus.values, *RunOutcome.values])
def test_every_run_status_has_a_shape_of_its_own_choice(status: str) -> None:
    assert status in keepwell.STATUS_SHAPES


def test_an_unknown_status_is_a_dash_and_its_own_word() -> None:
    html = render_to_string("includes/badge.html", {"status": "half_done"})
    assert "Half done" in html
    assert "<svg" in html


def test_a_badge_escapes_its_word() -> None:
    assert "<b>" not in render_to_string("includes/badge.html", {"status": "failed", "word": "<b>"})


# --- Filters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "–"),
        (0, f"0{NB}B"),
        (1023, f"1023{NB}B"),
        (1024, f"1.0{NB}KiB"),
        (1024**2 - 1, f"1.0{NB}MiB"),
        (1_503_238_553, f"1.4{NB}GiB"),
        (150 * 1024**3, f"150{NB}GiB"),
        (-2048, f"−2.0{NB}KiB"),
        (3 * 1024**7, f"3072{NB}EiB"),
    ],
)
def test_sizes_are_in_binary_units(size: int | None, text: str) -> None:
    assert keepwell.filesize(size) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, f"0{NB}s"),
        (0.02, f"<{NB}0.1{NB}s"),
        (0.42, f"0.4{NB}s"),
        (9.97, f"10{NB}s"),
        (timedelta(seconds=72), f"1{NB}min 12{NB}s"),
        (59.6, f"1{NB}min"),
        (2 * 3600 + 300 + 59, f"2{NB}h 5{NB}min"),
        (timedelta(days=2, hours=3), f"2{NB}d 3{NB}h"),
        (-5, f"0{NB}s"),
    ],
)
def test_durations_have_at_most_two_units(value: timedelta | float | None, text: str) -> None:
    assert keepwell.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (7, "7"), (12345, "12\u202f345"), (-1000, "−1\u202f000")], ids=str
)
def test_numbers_are_grouped(value: int | None, text: str) -> None:
    assert keepwell.number(value) == text


NOW = datetime(2026, 11, 24, 13, 4, 11, tzinfo=UTC)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    with timezone.override(ZoneInfo("Europe/Berlin")):
        yield


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (timedelta(seconds=-2), "just now"),
        (timedelta(seconds=-40), f"40{NB}s ago"),
        (timedelta(minutes=-59, seconds=-59), f"59{NB}min ago"),
        (timedelta(hours=-3), f"3{NB}h ago"),
        (timedelta(hours=-47), f"47{NB}h ago"),
        (timedelta(days=-6), f"6{NB}days ago"),
        (timedelta(days=-90), f"3{NB}months ago"),
        (timedelta(days=-1100), f"3{NB}years ago"),
        (timedelta(seconds=30), f"in 30{NB}s"),
        (timedelta(hours=2, minutes=5), f"in 2{NB}h 5{NB}min"),
        (timedelta(days=3), f"in 3{NB}d"),
    ],
    ids=str,
)
def test_ago_tells_the_distance_from_now(distance: timedelta, text: str) -> None:
    assert f">{text}</time>" in keepwell.ago(NOW + distance)


@pytest.mark.usefixtures("berlin")
def test_a_time_carries_the_full_local_time_with_its_weekday() -> None:
    html = keepwell.ago(NOW)
    assert 'datetime="2026-11-24T14:04:11+01:00"' in html
    assert 'title="Tuesday 24 November 2026, 14:04:11 CET"' in html


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NOW, "Tue 24 Nov, 14:04"),
        (NOW - timedelta(days=6), "Wed 18 Nov, 14:04"),
        (NOW - timedelta(days=7), "17 Nov 2026, 14:04"),
        (datetime(2026, 7, 1, 22, 30, tzinfo=UTC), "2 Jul 2026, 00:30"),
    ],
    ids=str,
)
def test_a_moment_names_the_weekday_when_near_and_the_year_when_not(value: datetime, text: str) -> None:
    assert f">{text}</time>" in keepwell.moment(value)


def test_an_absent_time_is_a_dash() -> None:
    assert keepwell.ago(None) == keepwell.moment(None) == "–"


# --- Forms --------------------------------------------------------------------------------------------------------


class JobForm(forms.Form):
    name = forms.CharField(help_text="Shown in lists.")
    kind = forms.ChoiceField(choices=[("files", "Files")])
    paths = forms.CharField(widget=forms.Textarea, required=False)
    targets = forms.MultipleChoiceField(
        choices=[("1", "etc"), ("2", "<home>")], widget=forms.CheckboxSelectMultiple, help_text="What is protected."
    )
    enabled = forms.BooleanField(required=False, help_text="Runs by itself.")
    token = forms.CharField(widget=forms.HiddenInput, required=False)


def _field(form: forms.Form, name: str, **context: Any) -> str:
    return render_to_string("includes/field.html", {"field": form[name], **context})


def test_help_is_tied_to_its_input() -> None:
    html = _field(JobForm(), "name")
    assert '<label for="id_name">' in html
    assert 'aria-describedby="id_name_helptext"' in html
    assert 'id="id_name_helptext">Shown in lists.' in html


def test_an_error_takes_the_place_of_the_help() -> None:
    html = _field(JobForm({}), "name")
    assert 'aria-invalid="true"' in html
    assert 'id="id_name_error"' in html
    assert 'id="id_name_helptext" hidden>' in html


def test_a_group_of_checkboxes_is_a_described_fieldset() -> None:
    html = _field(JobForm({}), "targets")
    assert '<fieldset class="field" aria-describedby="id_targets_helptext id_targets_error"' in html
    assert "<legend>" in html
    assert html.count('type="checkbox"') == 2
    assert "&lt;home&gt;" in html


@pytest.mark.parametrize(("name", "element"), [("kind", "<select"), ("paths", "<textarea")])
def test_other_controls_have_their_label_above(name: str, element: str) -> None:
    html = _field(JobForm(), name)
    assert html.index("<label") < html.index(element)


def test_a_checkbox_stands_inside_its_label() -> None:
    html = _field(JobForm(), "enabled")
    assert re.search(r'<label class="choice" for="id_enabled"><input type="checkbox"[^>]*><span>Enabled</span>', html)


def test_a_hidden_field_is_only_its_input() -> None:
    assert _field(JobForm(), "token").strip().startswith("<input")


def test_the_summary_of_errors_links_to_each_field() -> None:
    form = JobForm({})
    form.add_error(None, "Storage nas is full.")
    html = render_to_string("includes/form_errors.html", {"form": form})
    assert 'role="alert"' in html
    assert '<a href="#id_name">Name</a>' in html
    assert "Storage nas is full." in html
    assert render_to_string("includes/form_errors.html", {"form": JobForm()}).strip() == ""


# --- Other includes -----------------------------------------------------------------------------------------------


def test_a_pager_keeps_the_filters_of_the_page() -> None:
    request = RequestFactory().get("/runs/?status=failed&page=2")
    page = Paginator(range(12_000), 50).page(2)
    html = render_to_string("includes/pager.html", {"page": page, "target": "runs"}, request=request)
    assert 'href="?status=failed&amp;page=1"' in html
    assert 'href="?status=failed&amp;page=3"' in html
    assert 'hx-target="#runs"' in html
    assert "51–100 of 12\u202f000" in html


def test_a_pager_of_one_page_is_nothing() -> None:
    request = RequestFactory().get("/runs/")
    page = Paginator(range(3), 50).page(1)
    assert render_to_string("includes/pager.html", {"page": page}, request=request).strip() == ""


def test_messages_are_a_status_region_that_can_ride_along() -> None:
    message = Message(constants.ERROR, "etc was not backed up.")
    assert 'role="status"' in render_to_string("includes/messages.html", {})
    html = render_to_string("includes/messages.html", {"oob": True, "messages": [message]})
    assert 'hx-swap-oob="innerHTML"' in html
    assert 'data-status="error"' in html
    assert "etc was not backed up." in html
    assert "<div" not in render_to_string("includes/messages.html", {"oob": True})


def test_a_log_line_is_escaped_and_carries_its_level() -> None:
    line = SimpleNamespace(at=NOW, level="error", text="<script>", seq=7)
    html = render_to_string("includes/log.html", {"lines": [line]})
    assert 'data-level="error"' in html
    assert 'id="L7"' in html
    assert "&lt;script&gt;" in html


def test_a_confirmation_posts_with_its_verb_and_says_what_can_be_undone() -> None:
    html = render_to_string(
        "includes/confirm.html",
        {
            "button": "Move 12 backups to trash",
            "cancel_url": "/backups/",
            "undo": "For 72 h.",
            "danger": True,
            "hidden": [("digest", "3f9a")],
        },
        request=RequestFactory().get("/"),
    )
    assert 'method="post"' in html
    assert "csrfmiddlewaretoken" in html
    assert '<input type="hidden" name="digest" value="3f9a">' in html
    assert '<button class="button danger">Move 12 backups to trash</button>' in html
    assert "For 72 h." in html
