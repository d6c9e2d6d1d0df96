"""A replica in step with its empty store."""

from __future__ import annotations

import pytest

from tests.unit.cache.builders import Replica


@pytest.fixture
async def replica() -> Replica:
    replica = Replica()
    await replica.mirror.sync()
    return replica
