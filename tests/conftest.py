"""Settings for the whole suite. HYPOTHESIS_PROFILE=fast|default|deep chooses how long properties are searched."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Examples take as long as a loaded two-core machine lets them; a deadline would only measure that.
settings.register_profile("fast", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
