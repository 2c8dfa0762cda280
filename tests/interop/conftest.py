"""What tests with real programs have in common."""

from __future__ import annotations

import pytest

from .certificates import HOST, Authority, Pair


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority: Authority) -> Pair:
    """The server's certificate."""
    return authority.issue(HOST, "127.0.0.1", common_name=HOST)
