"""A headless Chromium without network, in which pages are opened from files."""

from __future__ import annotations

import json
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


def assert_no_errors_and_no_network(driver: webdriver.Chrome) -> None:
    """Of all pages that it has opened: nothing in the browser's log, and no request beyond the file."""
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    # The browser's own start page asks for things too.
    requests = [request["request"]["url"] for request in sent if request["documentURL"].startswith("file:")]
    assert requests
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []
