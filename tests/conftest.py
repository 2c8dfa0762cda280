"""Settings for the whole suite. HYPOTHESIS_PROFILE=fast|default|deep chooses how long properties are searched.

`mutation` is the profile for mutmut.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

# Examples take as long as a loaded two-core machine lets them; a deadline would only measure that.
settings.register_profile("fast", max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# The same examples every time, so that a mutation score can be had twice; what fails need not be made small.
settings.register_profile(
    "mutation",
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
