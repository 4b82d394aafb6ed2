"""The plan against restic itself: random schedules and policies, the same survivors for the same reasons."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from retention_samples import LONG_AFTER, restic_matches, restic_policy

from backups.retention import Candidate, plan
from backups.retention.policy import COUNT_RULES, WITHIN_RULES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("restic") is None, reason="restic is not installed: the plan cannot be compared with it"
    ),
]

SCHEDULES = 75
"""Of each of the four zones: 300 schedules, each with a policy of its own."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """A restic repository of one host and one path, in which it is a given time zone."""

    folder: Path
    timezone: str

    def restic(self, *arguments: str) -> str:
        environment = {
            "PATH": os.environ["PATH"],
            "TZ": self.timezone,
            "RESTIC_REPOSITORY": str(self.folder / "repository"),
            "RESTIC_PASSWORD": "test",
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
        }
        done = subprocess.run(["restic", *arguments], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fill(self, walls: Mapping[datetime, Sequence[str]]) -> dict[str, list[Candidate]]:
        """Make a snapshot with these tags at each of these wall times.

        Returns the copies by tag: they carry the moments that restic made of the wall times.
        """
        source = self.folder / "source"
        source.mkdir()
        (source / "file").write_text("content")
        self.restic("init")
        for wall, tags in walls.items():
            time = f"{wall:%Y-%m-%d %H:%M:%S}"
            self.restic("backup", "--host", "test", "--time", time, "--tag", ",".join(tags), str(source))
        copies: dict[str, list[Candidate]] = {}
        for snapshot in json.loads(self.restic("snapshots", "--json")):
            created = datetime.fromisoformat(snapshot["time"])
            for tag in snapshot["tags"]:
                copies.setdefault(tag, []).append(Candidate(uid=snapshot["id"], created=created, size=1))
        return copies

    def survivors(self, policy: dict[str, Any], tag: str) -> dict[str, list[str]]:
        """The ids that `restic forget` would keep, newest first, with its reasons."""
        options = [
            f"--keep-{rule.replace('_', '-')}={'unlimited' if value == -1 else value}" for rule, value in policy.items()
        ]
        (group,) = json.loads(self.restic("forget", "--dry-run", "--json", "--tag", tag, *options))
        assert [reason["snapshot"]["time"] for reason in group["reasons"]] == [kept["time"] for kept in group["keep"]]
        return {reason["snapshot"]["id"]: reason["matches"] for reason in group["reasons"]}

    def assert_agreement(self, copies: list[Candidate], policy: dict[str, Any], tag: str) -> None:
        made = plan(copies, restic_policy(policy, self.timezone), LONG_AFTER)
        ours = {verdict.uid: restic_matches(made.policy, verdict) for verdict in made.keep}
        assert list(ours.items()) == list(self.survivors(policy, tag).items()), (tag, policy)


def random_walls(chance: random.Random, timezone: str) -> list[datetime]:
    """Distinct wall times over up to three years: bursts, nights, gaps, and hours around the changes of the clock."""
    moment = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=chance.randrange(24 * 300))
    moments = set()
    for _ in range(55):
        moments.add(moment)
        hours = chance.choice([0.4, 1, 5, 24, 24, 24 * 7, chance.uniform(24, 24 * 90)])
        moment += timedelta(seconds=int(hours * 3600))
    for day in (
        datetime(2025, 3, 30, tzinfo=UTC),
        datetime(2025, 10, 26, tzinfo=UTC),
        datetime(2025, 11, 2, tzinfo=UTC),
    ):
        moments.add(day + timedelta(minutes=chance.randrange(-120, 600)))
    return sorted({moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None) for moment in moments})


def random_policy(chance: random.Random) -> dict[str, Any]:
    policy: dict[str, Any] = {}
    while not policy:
        policy = {rule: chance.choice([-1, 1, 2, 3, 5, 9]) for rule in COUNT_RULES if chance.random() < 0.3}
        for rule in WITHIN_RULES:
            if chance.random() < 0.2:
                policy[rule] = chance.choice(["1h", "30h", "7d", "1m", "2m10d", "1y", "1y2m3d3h", "90d12h"])
    return policy


@pytest.mark.parametrize(
    ("seed", "timezone"),
    [
        (1, "UTC"),
        (2, "Europe/Berlin"),
        (3, "America/New_York"),
        (4, "Australia/Lord_Howe"),
    ],
)
def test_plan_keeps_what_restic_keeps_for_the_same_reasons(seed: int, timezone: str, tmp_path: Path) -> None:
    """A tag is a schedule: to make the snapshots of each anew would take hours."""
    chance = random.Random(seed)
    repository = Repository(folder=tmp_path, timezone=timezone)
    walls: dict[datetime, list[str]] = {wall: ["all"] for wall in random_walls(chance, timezone)}
    for number in range(SCHEDULES):
        share = chance.choice([0.1, 0.3, 0.5, 0.8, 0.95])
        chosen = [wall for wall in walls if chance.random() < share]
        for wall in chosen or [chance.choice(list(walls))]:
            walls[wall].append(f"schedule{number}")
    schedules = repository.fill(walls)
    del schedules["all"]

    assert len(schedules) == SCHEDULES
    for tag, copies in schedules.items():
        repository.assert_agreement(copies, random_policy(chance), tag)


@pytest.mark.parametrize(
    ("timezone", "newest", "change"),
    [
        ("Europe/Berlin", datetime(2025, 3, 31, 2, 30), datetime(2025, 3, 30, 1, 0)),
        ("Europe/Berlin", datetime(2025, 10, 27, 2, 30), datetime(2025, 10, 26, 1, 0)),
        ("America/New_York", datetime(2025, 3, 10, 2, 30), datetime(2025, 3, 9, 7, 0)),
        ("America/New_York", datetime(2025, 11, 3, 1, 30), datetime(2025, 11, 2, 6, 0)),
    ],
    ids=["gap east", "fold east", "gap west", "fold west"],
)
def test_a_window_that_begins_in_a_changing_hour_begins_where_that_of_restic_does(
    timezone: str, newest: datetime, change: datetime, tmp_path: Path
) -> None:
    """`change` is the moment in UTC at which the clock changes; snapshots stand every 20 minutes around it."""
    zone = ZoneInfo(timezone)
    around = [change.replace(tzinfo=UTC) + timedelta(minutes=20 * number + 5) for number in range(-5, 5)]
    repository = Repository(folder=tmp_path, timezone=timezone)
    walls = [*sorted({moment.astimezone(zone).replace(tzinfo=None) for moment in around}), newest]
    copies = repository.fill({wall: ["all"] for wall in walls})["all"]

    for within in ("1d", "1d1h", "23h", "25h"):
        repository.assert_agreement(copies, {"within": within}, "all")
    repository.assert_agreement(copies, {"hourly": -1, "daily": 2}, "all")
