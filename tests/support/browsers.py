"""The system's Chromium, driven by Playwright, for tests that look at a page."""

import shutil
from contextlib import contextmanager

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
UNSEEN = "the report was not looked at in a browser: apt-get install chromium; pip install 'chipproof[browser]'"


@contextmanager
def chromium():
    """A browser; the test is skipped where there is none. axe-core comes with the same extra."""
    pytest.importorskip("axe_playwright_python", reason=UNSEEN)
    if BROWSER is None:
        pytest.skip(UNSEEN)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()
