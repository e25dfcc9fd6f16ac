"""A headless Chromium without network, in which pages are opened from files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium(*, width: int = 1500, height: int = 1000) -> Iterator[webdriver.Chrome]:
    """A selenium driver; where there is no browser the test is skipped, or fails if CI_BROWSER=1."""
    missing = _missing()
    if missing:
        message = f"no headless browser: {missing}"
        if os.environ.get("CI_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = next(path for path in map(shutil.which, BROWSERS) if path)
    with tempfile.TemporaryDirectory() as profile:
        for option in (*OPTIONS, f"--window-size={width},{height}", f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def _missing() -> str:
    """What a browser test lacks here, or an empty text."""
    if not any(map(shutil.which, BROWSERS)):
        return f"none of {', '.join(BROWSERS)} is on the PATH"
    return "" if shutil.which("chromedriver") else "chromedriver is not on the PATH"
