"""The shape of the project, checked by reading it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RANK = {"scheduling": 1, "backups": 2, "maintenance": 3, "config": 4}
PURE = ("backups/retention", "backups/archive", "backups/storage", "backups/sources", "scheduling/cron.py")
ACCOUNTS_MAY_BE_IMPORTED_BY = {"views", "api", "urls", "admin", "supervisor", "demo", "management"}


def modules(package: str) -> Iterator[Path]:
    for path in sorted((ROOT / package).rglob("*.py")):
        if "migrations" not in path.parts:
            yield path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            yield node.lineno, node.module or ""
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name


def arrows() -> Iterator[tuple[Path, int, str, str]]:
    for package in (*RANK, "accounts"):
        for path in modules(package):
            for line, module in imports(path):
                yield path.relative_to(ROOT), line, package, module.split(".")[0]


def test_imports_run_one_way() -> None:
    against = [f"{path}:{line} imports {to}" for path, line, at, to in arrows() if RANK.get(to, 0) > RANK.get(at, 9)]
    assert against == []


def test_accounts_imports_none_of_the_others() -> None:
    assert [
        f"{path}:{line}" for path, line, at, to in arrows() if at == "accounts" and to in RANK and to != "config"
    ] == []


def test_only_the_edges_import_accounts() -> None:
    strays = [
        f"{path}:{line}"
        for path, line, at, to in arrows()
        if to == "accounts"
        and at not in ("accounts", "config")
        and not ACCOUNTS_MAY_BE_IMPORTED_BY & {path.stem, *path.parts}
    ]
    assert strays == []


@pytest.mark.parametrize("place", PURE)
def test_pure_modules_know_neither_django_nor_the_clock(place: str) -> None:
    found = []
    for path in [ROOT / place] if place.endswith(".py") else modules(place):
        found += [
            f"{path}:{line}" for line, module in imports(path) if module.split(".")[0] in ("django", "apscheduler")
        ]
        text = path.read_text()
        found += [
            f"{path}: {call}" for call in ("datetime.now(", "utcnow(", "date.today(", "timezone.now(") if call in text
        ]
    assert found == []


def test_every_module_has_an_import_of_annotations_from_the_future() -> None:
    def lacks(path: Path) -> bool:
        text = path.read_text()
        return bool(text.strip()) and "from __future__ import annotations" not in text

    assert [str(path) for package in (*RANK, "accounts") for path in modules(package) if lacks(path)] == []


def test_no_import_hides_in_a_function() -> None:
    """Except in `AppConfig.ready`, which Django calls when models may be imported at last."""
    hidden = []
    for package in (*RANK, "accounts"):
        for path in modules(package):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name != "ready":
                    hidden += [
                        f"{path}:{inner.lineno}"
                        for inner in ast.walk(node)
                        if isinstance(inner, ast.Import | ast.ImportFrom)
                    ]
    assert hidden == []


def test_files_stay_small_enough_to_be_one_thing() -> None:
    assert [
        str(path)
        for package in (*RANK, "accounts")
        for path in modules(package)
        if len(path.read_text().splitlines()) > 420
    ] == []
