"""The simulated programs start warm."""

import pytest
import warm


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    warm.instead(monkeypatch, warm.LIGHT)
