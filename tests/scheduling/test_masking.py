from __future__ import annotations

import json
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.masking import MASK, MAX_DEPTH, Mask, mask_key_blocks, mask_patterns

# Real secrets would be found by those who look for them in repositories.
TOKEN = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://anna:hunter2@db:5432/shop", "postgres://anna:***@db:5432/shop"),
        ("rest:https://anna:p@ss@nas/repo is locked", "rest:https://anna:***@nas/repo is locked"),
        ("redis://:hunter2@cache", "redis://:***@cache"),
        ("PGPASSWORD=hunter2 pg_dump shop", "PGPASSWORD=*** pg_dump shop"),
        (
            "env: RESTIC_PASSWORD=a,b;c AWS_SECRET_ACCESS_KEY=x/y+z",
            "env: RESTIC_PASSWORD=*** AWS_SECRET_ACCESS_KEY=***",
        ),
        ("MYSQL_PWD=hunter2", "MYSQL_PWD=***"),
        ("host=db password='two words' user=anna", "host=db password=*** user=anna"),
        ("mysqldump --password=hunter2 shop", "mysqldump --password=*** shop"),
        ("mysqldump --password hunter2 shop", "mysqldump --password *** shop"),
        ("GET /x?access_token=abc&page=2", "GET /x?access_token=***&page=2"),
        ("https://s3/x?X-Amz-Signature=abc123&y=1", "https://s3/x?X-Amz-Signature=***&y=1"),
        ('{"password": "hunter2", "user": "anna"}', '{"password": ***, "user": "anna"}'),
        ("{'api_key': 'hunter2'}", "{'api_key': ***}"),
        ("password: hunter2", "password: ***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("> authorization: Basic YW5uYTpodW50ZXIy", "> authorization: Basic ***"),
        ("Cookie: sessionid=abc; csrftoken=def", "Cookie: ***"),
        ("X-Api-Key: hunter2", "X-Api-Key: ***"),
        (f"used token {'kw_' + TOKEN[:43]}.", "used token kw_***."),
        (f"git clone with {'gh' + 'p_' + TOKEN[:36]}", "git clone with ghp_***"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm5hIn0.c2lnbmF0dXJl", "got ***"),
    ],
    ids=lambda value: value[:25],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert mask_patterns(text) == shown
    assert mask_patterns(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "/etc/password: Cannot open: Permission denied",
        "/home/anna/.password-store/token.gpg: file changed as we read it",
        "/srv/secrets/password=old/x: removed before we read it",
        "/srv/x/PGPASSWORD=1: Cannot open: Permission denied",
        "password: Cannot open: Permission denied",
        "/home/x/Authorization: letter.txt: file changed as we read it",
        "/etc/ssl/private/key.pem: Cannot open: Permission denied",
        "nightly / etc: etc/20261103T230000Z-0123456789abcdef.tar.zst moved to the trash: daily: a newer one",
        "etc: stored as etc/20261103T230000Z-0123456789abcdef.tar.zst, sha256 " + "0a" * 32 + ".",
        "http://host:8080/~anna@home is not reachable",
        "ssh://git@host/repo",
        "restic --password-file /etc/restic/password backup",
        "12 tokens, 3 secrets and a basic configuration",
        "PWD=/root HOME=/root",
        "tokens=3",
    ],
    ids=lambda value: value[:25],
)
def test_ordinary_lines_and_paths_stay_as_they_are(text: str) -> None:
    assert mask_patterns(text) == text


@given(st.lists(st.text(alphabet=string.ascii_letters + string.digits + "=:@._-%?&", min_size=1), min_size=1))
def test_no_path_is_ever_masked(parts: list[str]) -> None:
    # What begins like a well-known token is one, wherever it is.
    path = "/" + "/".join(part for part in parts if not part.lower().startswith(("eyj", "gh", "xox", "kw_")))
    line = f"{path}: Cannot open: Permission denied"
    assert mask_patterns(line) == line


@given(
    secret=st.text(min_size=4).map(str.strip).filter(lambda text: len(text) >= 4 and text not in MASK),
    before=st.text(alphabet="ab /=", max_size=20),
    after=st.text(alphabet="cd /&", max_size=20),
)
def test_a_secret_that_is_named_never_shows(secret: str, before: str, after: str) -> None:
    mask = Mask()
    mask.hide(secret)
    assert secret not in mask.text(f"{before}{secret}{after}").replace(MASK, "")


def test_a_secret_is_found_however_it_is_written() -> None:
    mask = Mask()
    mask.hide('hun/ter "2"\x1b')
    for form in ('hun/ter "2"\x1b', "hun%2Fter%20%222%22%1B", json.dumps('hun/ter "2"\x1b'), 'hun/ter "2"\\x1b'):
        assert "hun" not in mask.text(f"it was {form} here")


def test_each_line_of_a_secret_is_one_too() -> None:
    mask = Mask()
    mask.hide("first half\nsecond half\n")
    assert mask.text("the first half") == "the ***"
    assert mask.text("second half, too") == "***, too"


def test_of_two_secrets_that_begin_alike_both_are_whole_gone() -> None:
    mask = Mask()
    mask.hide("hunter")
    mask.hide("hunter2000")
    assert mask.text("hunter2000 and hunter") == "*** and ***"


@pytest.mark.parametrize("text", ["", " ", "abc", "\n"])
def test_what_is_too_short_to_be_a_secret_leaves_text_alone(text: str) -> None:
    mask = Mask()
    mask.hide(text)
    assert mask.text("abc def") == "abc def"


def test_a_private_key_loses_its_inside() -> None:
    kind = "OPENSSH " + "PRIVATE KEY"
    key = f"-----BEGIN {kind}-----\nb3BlbnNzaC1rZXktdjE\nAAAA\n-----END {kind}-----"
    assert mask_key_blocks(f"read\n{key}\ndone") == f"read\n-----BEGIN {kind}-----***-----END {kind}-----\ndone"
    assert "b3Blb" not in mask_key_blocks(key[:-10])


def test_values_are_masked_at_any_depth() -> None:
    mask = Mask()
    mask.hide("hunter2")
    value = {
        "paths": ["/etc/a", "x hunter2"],
        "password": "abc",
        "count": 3,
        "deep": {"url": "a://b:c@d"},
        "none": None,
    }
    assert mask.value(value) == {
        "paths": ["/etc/a", "x ***"],
        "password": MASK,
        "count": 3,
        "deep": {"url": "a://b:***@d"},
        "none": None,
    }


def test_a_value_that_contains_itself_ends() -> None:
    value: list[object] = []
    value.append(value)
    masked = Mask().value(value)
    for _ in range(MAX_DEPTH + 1):
        masked = masked[0]
    assert masked is value


@pytest.mark.parametrize(
    "piece", ["x-", "a-", "--token-", "password", "eyJaaaaaaaa-", "a://b:", "'", "authorization: "]
)
def test_no_line_takes_long(piece: str) -> None:
    began = time.process_time()
    mask_patterns((piece * 8000)[:8000])
    assert time.process_time() - began < 0.5
