from __future__ import annotations

from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.env import env_bool, env_choice, env_int, env_list, env_path, env_secret, env_str, env_url


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("1", True, id="one"),
        pytest.param("TRUE", True, id="upper case"),
        pytest.param(" yes ", True, id="blanks"),
        pytest.param("on", True, id="on"),
        pytest.param("0", False, id="zero"),
        pytest.param("False", False, id="capital"),
        pytest.param("off", False, id="off"),
        pytest.param("", True, id="empty means the default"),
    ],
)
def test_a_boolean_is_read_in_its_usual_spellings(value: str, expected: bool) -> None:
    assert env_bool("SWITCH", True, environ={"SWITCH": value}) is expected


@pytest.mark.parametrize("value", ["flase", "2", "enabled", "truee"])
def test_an_unknown_boolean_is_refused_by_name_with_what_is_accepted(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"SWITCH is '{value}'\. Use one of: 1, true, .*, off") as refusal:
        env_bool("SWITCH", environ={"SWITCH": value})
    assert "no" in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("many", "Use a whole number, for example 8000", id="word"),
        pytest.param("1.5", "Use a whole number", id="fraction"),
        pytest.param("0", "Use 1 or more", id="too small"),
        pytest.param("65536", "Use 65535 or less", id="too large"),
    ],
)
def test_a_number_that_cannot_be_used_is_refused(value: str, message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        env_int("PORT", 8000, minimum=1, maximum=65535, environ={"PORT": value})


def test_a_number_within_bounds_is_read_and_a_missing_one_is_the_default() -> None:
    assert env_int("PORT", 8000, environ={"PORT": "9000"}) == 9000
    assert env_int("PORT", 8000, environ={}) == 8000


def test_a_list_drops_blanks_and_empty_parts() -> None:
    assert env_list("HOSTS", environ={"HOSTS": " a.example , ,b.example,"}) == ["a.example", "b.example"]
    assert env_list("HOSTS", ("c",), environ={"HOSTS": ""}) == ["c"]


def test_an_empty_text_is_the_default() -> None:
    assert env_str("NAME", "x", environ={"NAME": "  "}) == "x"


def test_a_choice_is_read_in_either_case_and_another_word_is_refused() -> None:
    assert env_choice("LEVEL", "INFO", ("INFO", "DEBUG"), environ={"LEVEL": "debug"}) == "DEBUG"
    with pytest.raises(ImproperlyConfigured, match=r"LEVEL is 'LOUD'.*: INFO, DEBUG"):
        env_choice("LEVEL", "INFO", ("INFO", "DEBUG"), environ={"LEVEL": "LOUD"})


def test_a_path_is_absolute_with_home_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert env_path("FOLDER", Path("/x"), environ={"FOLDER": "here"}) == tmp_path / "here"
    assert env_path("FOLDER", Path("/x"), environ={"FOLDER": "~/keep"}) == Path("/home/somebody/keep")
    assert env_path("FOLDER", Path("/x"), environ={}) == Path("/x")


def test_a_secret_comes_from_the_variable_or_from_the_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file\n")
    assert env_secret("KEY", environ={"KEY": "direct"}) == "direct"
    assert env_secret("KEY", environ={"KEY_FILE": str(tmp_path / "secret")}) == "from the file"
    assert env_secret("KEY", environ={}) == ""


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param({"KEY": "s3cret", "KEY_FILE": "full"}, "KEY and KEY_FILE are both set", id="both"),
        pytest.param({"KEY_FILE": "absent"}, "KEY_FILE points at .*absent, which cannot be read", id="no such file"),
        pytest.param({"KEY_FILE": "empty"}, "KEY_FILE points at .*empty, which is empty", id="empty file"),
        pytest.param({"KEY_FILE": "binary"}, "cannot be read: it is not UTF-8 text", id="not text"),
    ],
)
def test_a_secret_that_cannot_be_had_stops_the_start_without_being_shown(
    tmp_path: Path, environ: dict[str, str], message: str
) -> None:
    (tmp_path / "full").write_text("s3cret")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    environ = {name: str(tmp_path / value) if name.endswith("_FILE") else value for name, value in environ.items()}
    with pytest.raises(ImproperlyConfigured, match=message) as refusal:
        env_secret("KEY", environ=environ)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("value", ["backup.example.org", "ftp://x", "https://", "http://x:port", "http://[::1"])
def test_an_address_must_be_complete(value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="Use a full address"):
        env_url("URL", environ={"URL": value})


def test_a_complete_address_is_read() -> None:
    url = env_url("URL", environ={"URL": "https://backup.example.org:8443/"})
    assert url is not None
    assert (url.scheme, url.hostname, url.port) == ("https", "backup.example.org", 8443)
    assert env_url("URL", environ={}) is None
