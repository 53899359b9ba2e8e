"""A real browser for pages that people look at: headless Chromium, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium")
PHONE, SMALL, DESK = (390, 844), (320, 568), (1280, 800)


def browser_runs() -> bool:
    """Not where the name is there for a package that is not."""
    if CHROMIUM is None:
        return False
    asked = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, timeout=60)
    return asked.returncode == 0 and "Chromium" in asked.stdout


needs_browser = pytest.mark.skipif(
    not browser_runs(), reason="no chromium on PATH that runs, to look with"
)


def browse(url: str, folder: Path, seconds: int = 10) -> subprocess.CompletedProcess[str]:
    """The document that a page became after so many seconds of its own time, on standard output;
    what it wrote to the console on standard error."""
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars"
    flags += " --disable-background-networking --disable-component-update --disable-sync"
    flags += " --enable-logging=stderr"
    assert CHROMIUM is not None
    return subprocess.run(
        [
            *(CHROMIUM, *flags.split(), f"--user-data-dir={folder / 'profile'}"),
            *(f"--virtual-time-budget={1000 * seconds}", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
