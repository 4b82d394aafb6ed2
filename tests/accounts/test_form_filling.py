from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.form_filling import fill_form


def filled(controls: str, values: dict[str, list[str]], *, form: str = '<form method="post">') -> str:
    other = "<form method='post'><input name='a'></form>"
    page = f"<!doctype html>\n<p>ü &amp; \u2028\x0c</p>\n{form}{controls}</form>{other}"
    return fill_form(page, page="/jobs/new/", action="/jobs/new/", values=values)


CONTROLS = {
    "text": ('<input name="a" value="old">', ["new"], '<input name="a" value="new">'),
    "escaped": ('<input name="a">', ['"><script>'], '<input name="a" value="&quot;&gt;&lt;script&gt;">'),
    "same name": ("<input name=a value=1><input name=a>", ["x"], '<input name="a" value="x"><input name="a" value="">'),
    "unticked": ('<input type="checkbox" name="a" checked>', [], '<input type="checkbox" name="a">'),
    "ticked": (
        "<input type=checkbox name=a value=2>",
        ["1", "2"],
        '<input type="checkbox" name="a" value="2" checked>',
    ),
    "radio": ("<input type=radio name=a value=x checked>", ["y"], '<input type="radio" name="a" value="x">'),
    "textarea": ("<textarea name=a>old\nx</textarea>", ["\n</a>&"], "<textarea name=a>\n\n&lt;/a&gt;&amp;</textarea>"),
    "select": (
        "<select name=a><option value=1 selected>1<option value=2>2</select>",
        ["2"],
        '<select name=a><option value="1">1<option value="2" selected>2</select>',
    ),
    "not sent": ("<select name=b><option value=1 selected>", [], "<select name=b><option value=1 selected>"),
    "none of many": (
        "<select name=b multiple><option value=1 selected></select>",
        [],
        '<select name=b multiple><option value="1"></select>',
    ),
}


@pytest.mark.parametrize(("controls", "sent", "expected"), CONTROLS.values(), ids=CONTROLS.keys())
def test_a_control_gets_what_was_sent_for_it(controls: str, sent: list[str], expected: str) -> None:
    assert f'<form method="post">{expected}</form><form' in filled(controls, {"a": sent} if sent else {})


@pytest.mark.parametrize(
    "controls",
    [
        '<input type="hidden" name="a" value="server">',
        '<input type="password" name="a">',
        '<input name="a_password">',
        '<input type="file" name="a">',
        '<input name="a" value="x" disabled>',
        '<button name="a" value="x">',
    ],
)
def test_hidden_fields_secrets_files_and_what_is_switched_off_stay_as_they_are(controls: str) -> None:
    assert filled(controls, {"a": ["typed"], "a_password": ["typed"]}) == filled(controls, {})


@pytest.mark.parametrize(
    "form",
    [
        "<form>",
        '<form method="get">',
        '<form method="post" action="/other/">',
        '<form method="post" action="//evil.example/x/">',
    ],
)
def test_only_the_form_that_was_sent_is_filled(form: str) -> None:
    page = f"{form}<input name='a'></form>"
    assert fill_form(page, page="/jobs/new/", action="/jobs/new/", values={"a": ["x"]}) == page


def test_a_form_is_found_by_where_it_posts_to_and_only_the_first() -> None:
    forms = [
        f'<form method="post" action="{action}"><input name="a"></form>' for action in ("../run/?x=1", "/jobs/run/")
    ]
    page = "".join(forms)
    html = fill_form(page, page="/jobs/new/", action="/jobs/run/", values={"a": ["x"]})
    assert html.count('value="x"') == 1
    assert html.index('value="x"') < html.index("</form>")


class Inputs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.values: list[str] = []
        self.tags = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags += 1
        if tag == "input":
            self.values.append(dict(attrs).get("value") or "")


@given(typed=st.text(), around=st.text(alphabet="a\n\r\u2028\x0b\x85é<&\"' >", max_size=30))
def test_whatever_was_typed_comes_back_as_it_was_and_adds_no_tag(typed: str, around: str) -> None:
    # What a browser can send and a page can hold.
    typed = typed.encode("utf-8", "ignore").decode()
    page = f'{around.replace("<", "&lt;")}<form method="post">\n<input name="a">\n</form>'
    parser = Inputs()
    parser.feed(fill_form(page, page="/", action="/", values={"a": [typed]}))
    assert parser.tags == 2
    assert parser.values == [typed]
