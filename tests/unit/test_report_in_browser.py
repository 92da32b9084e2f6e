"""The page of the last run in a real browser: on a phone and on a desk, light and dark.

It needs Chromium (`apt install chromium`; or GREENROOM_CHROMIUM names it), and is passed over where there is none.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from typing import Any

import pytest

from deploy import report

CHROMIUM = os.environ.get("GREENROOM_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt install chromium"),
]

WIDTHS = (360, 1200)
SCHEMES = ("light", "dark")
LEAST_CONTRAST = 4.5
"""Of text to its ground (WCAG 2.2, success criterion 1.4.3, level AA)."""

HOSTS = [f"web{n}.a-rather-long-name.example.com" for n in range(1, 4)]
STEPS = ("prepare", "ship", "migrate", "start", "flip", "settle", "finish", "undo")


def told() -> list[report.Told]:
    """A run with every phase, a failure with long lines, and an end."""
    events: list[report.Told] = [
        {"kind": "run", "verb": "deploy", "project": "shop", "env": "prod", "hosts": HOSTS, "who": "ada@laptop",
         "began": "2026-11-23 01:00 UTC"}
    ]  # fmt: skip
    for number, phase in enumerate(STEPS):
        for host in HOSTS:
            step = {"host": host, "phase": phase, "title": f"a step of {phase} with a title of its own"}
            events.append({"kind": "step", "at": number * 10, "text": "because /srv/shop/" + "x" * 70, **step})
            events.append({"kind": "done", "at": number * 10 + 7.5, "seconds": 7.5, **step})
    events.append(
        {"kind": "failed", "at": 80, "host": HOSTS[0], "text": "gate: failed\n    " + "long " * 40 + "x" * 200}
    )
    events.append({"kind": "ended", "at": 81, "text": "release 20261123 is live"})
    events.append({"kind": "error", "at": 81, "exit_code": 1, "text": "no: " + "y" * 150})
    return events


PROBE = """
const seen = {};
const parse = text => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
  .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
const over = (top, below, share) => top.slice(0, 3).map((c, n) => c * share + below[n] * (1 - share));
for (const frame of document.querySelectorAll('iframe')) {
  const view = frame.contentWindow, page = frame.contentDocument;
  for (const each of page.querySelectorAll('details')) each.open = true;
  const canvas = view.matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
  let least = [99, ''];
  const walk = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    if (!walk.currentNode.data.trim() || walk.currentNode.parentElement.tagName === 'title') continue;
    let ground = canvas, opacity = 1;
    const chain = [];
    for (let at = walk.currentNode.parentElement; at; at = at.parentElement) chain.unshift(at);
    for (const at of chain) {
      const style = view.getComputedStyle(at), colour = parse(style.backgroundColor);
      ground = over(colour, ground, colour.length > 3 ? colour[3] : 1);
      opacity *= Number(style.opacity);
    }
    const last = chain[chain.length - 1];
    const style = view.getComputedStyle(last);
    const ink = over(parse(last.closest('svg') ? style.fill : style.color), ground, opacity);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < least[0]) least = [ratio, walk.currentNode.data.trim()];
  }
  seen[frame.id] = {
    dark: view.matchMedia('(prefers-color-scheme: dark)').matches,
    width: view.innerWidth,
    scrolls: page.documentElement.scrollWidth,
    contrast: least,
    loaded: view.performance.getEntriesByType('resource').map(each => each.name),
    text: page.body.innerText.length,
  };
}
const said = document.createElement('pre');
said.id = 'seen';
said.textContent = JSON.stringify(seen);
document.body.append(said);
"""


@pytest.fixture(scope="module")
def browsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a browser made of the page, by width and scheme, and what it complained of. No name leads anywhere."""
    assert CHROMIUM
    page = html.escape(report.page(told()))
    frames = "".join(
        f'<iframe id="{width}-{scheme}" style="width:{width}px;height:900px;border:0;color-scheme:{scheme}" '
        f'srcdoc="{page}"></iframe>'
        for width in WIDTHS
        for scheme in SCHEMES
    )
    folder = tmp_path_factory.mktemp("browser")
    wrapper = folder / "wrapper.html"
    script = f'<script>addEventListener("load", () => {{{PROBE}}})</script>'
    wrapper.write_text(f'<!doctype html><meta charset="utf-8"><body>{frames}{script}')
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom",
             "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1300,2000",
             f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000", wrapper.as_uri()]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr
    return json.loads(html.unescape(found[1])), "\n".join(re.findall(r".*CONSOLE.*", done.stderr))


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_can_be_read(browsed: tuple[dict[str, Any], str], width: int, scheme: str) -> None:
    seen = browsed[0][f"{width}-{scheme}"]
    assert seen["dark"] == (scheme == "dark")
    assert seen["width"] == width
    assert seen["text"] > 1000
    assert seen["scrolls"] <= width, "the page is wider than the window"
    assert seen["contrast"][0] >= LEAST_CONTRAST, f"too pale: {seen['contrast'][1]}"
    assert seen["loaded"] == []


def test_the_browser_complains_of_nothing(browsed: tuple[dict[str, Any], str]) -> None:
    assert browsed[1] == ""
