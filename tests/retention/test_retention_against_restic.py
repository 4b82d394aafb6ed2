"""The plan against restic itself: random schedules and policies, the same survivors for the same reasons."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Sequence
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

POLICIES_PER_SCHEDULE = 15


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

    def fill(self, walls: Sequence[datetime]) -> list[Candidate]:
        """Make a snapshot at each of these wall times; the copies carry the moments that restic made of them."""
        source = self.folder / "source"
        source.mkdir()
        (source / "file").write_text("content")
        self.restic("init")
        for wall in walls:
            self.restic("backup", "--host", "test", "--time", f"{wall:%Y-%m-%d %H:%M:%S}", str(source))
        snapshots = json.loads(self.restic("snapshots", "--json"))
        return [
            Candidate(uid=snapshot["id"], created=datetime.fromisoformat(snapshot["time"]), size=1)
            for snapshot in snapshots
        ]

    def survivors(self, policy: dict[str, Any]) -> dict[str, list[str]]:
        """The ids that `restic forget` would keep, newest first, with its reasons."""
        options = [
            f"--keep-{rule.replace('_', '-')}={'unlimited' if value == -1 else value}" for rule, value in policy.items()
        ]
        (group,) = json.loads(self.restic("forget", "--dry-run", "--json", *options))
        assert [reason["snapshot"]["time"] for reason in group["reasons"]] == [kept["time"] for kept in group["keep"]]
        return {reason["snapshot"]["id"]: reason["matches"] for reason in group["reasons"]}

    def assert_agreement(self, copies: list[Candidate], policy: dict[str, Any]) -> None:
        made = plan(copies, restic_policy(policy, self.timezone), LONG_AFTER)
        ours = {verdict.uid: restic_matches(made.policy, verdict) for verdict in made.keep}
        assert list(ours.items()) == list(self.survivors(policy).items()), policy


def random_walls(chance: random.Random, timezone: str) -> list[datetime]:
    """Distinct wall times over up to three years: bursts, nights, gaps, and hours around the changes of the clock."""
    moment = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(hours=chance.randrange(24 * 300))
    moments = set()
    for _ in range(chance.randint(15, 22)):
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
    chance = random.Random(seed)
    repository = Repository(folder=tmp_path, timezone=timezone)
    copies = repository.fill(random_walls(chance, timezone))

    for _ in range(POLICIES_PER_SCHEDULE):
        repository.assert_agreement(copies, random_policy(chance))


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
    copies = repository.fill([*sorted({moment.astimezone(zone).replace(tzinfo=None) for moment in around}), newest])

    for within in ("1d", "1d1h", "23h", "25h"):
        repository.assert_agreement(copies, {"within": within})
    repository.assert_agreement(copies, {"hourly": -1, "daily": 2})
