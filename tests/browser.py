"""A headless browser for tests: what a page shows, what it complains of, what it asks the network for."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=2000"),
)
OWN = "not an origin"
"""Initiator of requests that the browser makes for itself, whatever page is open."""


@dataclass(frozen=True)
class Seen:
    """A page as a browser showed it.

    Attributes:
        dom: the document after loading, as HTML.
        complaints: lines of the console.
        requests: addresses that the page asked for, its own file left out.
    """

    dom: str
    complaints: list[str]
    requests: list[str]


def find_browser() -> str:
    """Return a Chromium, or skip the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser found ({', '.join(NAMES)}); install Chromium to run this test")
    return found


def look(page: Path, folder: Path, *flags: str) -> Seen:
    """Open a page from file:// and say what was seen; ``folder`` must be empty."""
    log = folder / "net.json"
    command = [find_browser(), *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", *flags]
    done = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=300, check=True
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(done.stdout, complaints, [url for url in _requests(log) if url != page.as_uri()])


def photograph(page: Path, picture: Path, profile: Path, width: int, height: int) -> None:
    """Take a picture of a page."""
    size = f"--window-size={width},{height}"
    command = [find_browser(), *FLAGS, f"--user-data-dir={profile}", size, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=300, check=True)


def _requests(log: Path) -> list[str]:
    found = json.loads(log.read_text(encoding="utf-8", errors="replace"))
    names = {number: name for name, number in found["constants"]["logEventTypes"].items()}
    urls = []
    for event in found["events"]:
        params = event.get("params") or {}
        if names[event["type"]] == "URL_REQUEST_START_JOB" and "url" in params and params.get("initiator") != OWN:
            urls.append(params["url"])
    return urls
