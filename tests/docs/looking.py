"""What Chromium makes of the pages of a site, each in a frame of some width."""

import html
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from tests import browser

CONTROL = "an error that the tests make themselves"

_SCRIPT = """
const seen = {}, frame = document.querySelector("iframe");
const pause = time => new Promise(done => setTimeout(done, time));
async function look(page) {
  await new Promise(done => { frame.onload = done; frame.src = page; });
  await pause(200);
  const there = frame.contentDocument, view = frame.contentWindow;
  const all = selector => [...there.querySelectorAll(selector)];
  const boxes = all(".md-typeset__scrollwrap, .md-typeset pre > code");
  const right = each => each.getBoundingClientRect().right;
  const shown = "article p, article li, article h1, article h2, article h3, article pre," +
    "article picture img, article .md-typeset__scrollwrap";
  seen[page] = {
    title: there.title,
    window: view.innerWidth,
    width: there.documentElement.scrollWidth,
    right: Math.max(...all(shown).filter(each => !each.closest("td, th")).map(right)),
    scrolling: boxes.filter(each => each.scrollWidth > each.clientWidth).length,
    broken: all("td code").filter(each => /^[\\w.]+$/.test(each.textContent)
      && each.getClientRects().length > 1).map(each => each.textContent),
    images: all("article img").map(
      each => [each.currentSrc, each.complete && each.naturalWidth > 0, each.clientWidth]),
    loaded: view.performance.getEntriesByType("resource").map(each => each.name),
  };
}
onload = async () => {
  for (const page of PAGES) await look(page);
  console.error(CONTROL);
  document.body.setAttribute("data-seen", JSON.stringify(seen));
};
"""


class Look(NamedTuple):
    """What was seen of each page, and what was written to the console."""

    pages: dict[str, dict[str, Any]]
    console: list[str]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(site: Path) -> Iterator[str]:
    """The site on this machine; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def look(site: Path, pages: Sequence[str], size: tuple[int, int], folder: Path) -> Look:
    """Open one page after the other in a frame of that size: a frame has no smallest width."""
    script = _SCRIPT.replace("PAGES", json.dumps(pages)).replace("CONTROL", json.dumps(CONTROL))
    driver = site / "driver.html"
    driver.write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><body><iframe '
        f'width="{size[0]}" height="{size[1]}" style="border:0"></iframe>'
        f"<script>{script}</script></body>"
    )
    with served(site) as address:
        done = browser.browse(address + driver.name, folder, seconds=2 * len(pages) + 10)
    driver.unlink()
    found = re.search(r'<body data-seen="([^"]*)"', done.stdout)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Look(json.loads(html.unescape(found[1])), console)
