"""Fixtures of the client's tests."""

from __future__ import annotations

import pytest

from tests.server.encrypted import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Certificates, made once."""
    return Authority(tmp_path_factory.mktemp("certificates"))
