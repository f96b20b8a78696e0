"""How many cases: a few and always the same ones in the suite, many new ones by command.

pytest tests/hostile --hypothesis-profile=campaign --hypothesis-show-statistics
"""

import pytest
from hypothesis import HealthCheck, settings

COMMON = {"deadline": 30_000, "suppress_health_check": list(HealthCheck)}  # milliseconds

settings.register_profile("suite", max_examples=25, derandomize=True, database=None, **COMMON)
settings.register_profile("campaign", max_examples=1000, database=None, **COMMON)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--hypothesis-profile") is None:
        settings.load_profile("suite")
