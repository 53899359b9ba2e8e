"""The documentation as a site, built strictly by a real process."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

pytest.importorskip("mkdocs", reason="mkdocs is not installed (its theme needs Python 3.11)")

DOCUMENTED = ("", ".probe", ".measuring.theory", ".scoring.tasks", ".early_exit")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as by `make docs`, into another folder; requests to the network get no answer."""
    folder = tmp_path_factory.mktemp("site") / "site"
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **nowhere, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING -" not in done.stderr
    return folder


def test_a_page_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        loading = re.findall(r"<(?!a\b)[^>]*\s(?:src|srcset|href|data|action)=[\"']?(?:https?:)?//",
                             page.read_text(encoding="utf-8"))  # fmt: skip
        assert loading == [], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text()), sheet


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    ids = set(re.findall(r'id="(sift_trainer[\w.]*)"', text))
    for module in DOCUMENTED:
        module = f"sift_trainer{module}"
        for name in importlib.import_module(module).__all__:
            # Names of the package itself are shown with the module that they are in.
            shown = f"{module}.{name}" in ids or (
                module == "sift_trainer" and any(each.endswith(f".{name}") for each in ids)
            )
            assert shown, f"{module}.{name} is on no page of docs/api"
