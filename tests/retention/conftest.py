"""Properties are tried without a time limit for each example: a busy machine is not a wrong answer."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("retention", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("retention")
