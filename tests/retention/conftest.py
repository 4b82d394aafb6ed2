"""Properties are tried on the same examples every time, and without a time limit: a busy machine is no fault."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("retention", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("retention")
