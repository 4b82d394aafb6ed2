"""Every promise is broken once, in a copy of the checkout, and its tests must notice.

`pytest -m mutants` runs them all. A mutant whose place in the code has changed is brought up to date, or it proves
nothing: that is looked at in every run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.proof.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("accounts", "backups", "config", "maintenance", "scheduling", "static", "templates", "tests")
PROMISES = {f"R{number}" for number in range(1, 23)} - {"R13", "R18"}
SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """A copy of what is checked out, with a database that is migrated once for all mutants."""

    folder: Path
    scratch: Path

    def test(self, ids: tuple[str, ...]) -> tuple[int, str]:
        """Run these tests there; the exit status of pytest (1: some failed) and the end of what it said."""
        ours = ("KEEPWELL_", "DJANGO_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {"KEEPWELL_TEST_DATA": str(self.scratch), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", "--reuse-db", "--tb=line"]
        ended = subprocess.run(
            [*command, *ids],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        return ended.returncode, (ended.stdout + ended.stderr)[-3000:]


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Made once; the tests that are to fail all pass there as long as nothing is broken."""
    folder = tmp_path_factory.mktemp("mutants")
    made = Checkout(folder=folder / "checkout", scratch=folder / "data")
    made.scratch.mkdir()
    for name in COPIED:
        shutil.copytree(ROOT / name, made.folder / name)
    for name in ("manage.py", "pyproject.toml"):
        shutil.copy2(ROOT / name, made.folder / name)
    status, said = made.test(tuple(sorted({killer for mutant in MUTANTS for killer in mutant.killers})))
    assert status == 0, f"the tests fail where nothing is broken:\n{said}"
    return made


def broken(mutant: Mutant, text: str) -> str:
    assert text.count(mutant.old) == 1, f"{mutant.file} holds the text to break {text.count(mutant.old)} times"
    assert mutant.old != mutant.new
    return text.replace(mutant.old, mutant.new)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_still_applies_and_names_tests_that_exist(mutant: Mutant) -> None:
    compile(broken(mutant, (ROOT / mutant.file).read_text()), mutant.file, "exec")
    for killer in mutant.killers:
        file, _, name = killer.partition("::")
        assert re.search(rf"^def {re.escape(name.partition('[')[0])}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_every_promise_has_a_mutant() -> None:
    assert set(Counter(mutant.promise for mutant in MUTANTS)) == PROMISES
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_promise_is_noticed(checkout: Checkout, mutant: Mutant) -> None:
    file = checkout.folder / mutant.file
    file.write_text(broken(mutant, file.read_text()))
    try:
        status, said = checkout.test(mutant.killers)
    finally:
        # With its old time, so that what was compiled of it is used again.
        shutil.copy2(ROOT / mutant.file, file)
    assert status == 1, f"nothing noticed it:\n{said}" if status == 0 else said
