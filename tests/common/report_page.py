"""What tests ask of a report: what it refers to, its text, and how a browser shows it."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ignite.engine import Engine
from PIL import Image

from custom_apps.common.room import Room

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"
"""A name that is markup, in every place where a name may stand."""

MEASURING = """<!DOCTYPE html><iframe src="{page}" width="{width}" height="800" style="border:0"></iframe>
<pre></pre><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument, width = page.documentElement.clientWidth;
  const wide = [...page.querySelectorAll("body *")].filter(
    (e) => e.getBoundingClientRect().right > width + 0.5 && !e.closest(".box > *"));
  const cut = [...page.querySelectorAll("h1,h2,h3,p,dd,dt,li,pre,figcaption")].filter(
    (e) => e.scrollWidth > e.clientWidth + 1);
  document.querySelector("pre").textContent = JSON.stringify({{
    width, scroll: page.documentElement.scrollWidth, wide: wide.map((e) => e.outerHTML.slice(0, 80)),
    cut: cut.map((e) => e.outerHTML.slice(0, 80)), scripts: page.scripts.length,
    pictures: [...page.images].map((i) => [i.naturalWidth, i.getBoundingClientRect().width]),
    height: page.documentElement.scrollHeight }});
}};
</script>"""


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        tags: names of all elements.
        attributes: (element, name, value) of all attributes.
        text: of the body.
    """

    def __init__(self, source: str):
        super().__init__(convert_charrefs=True)
        self.source, self.tags, self.attributes, self._texts, self._style = source, [], [], [], False
        self.feed(source)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        if not self._style:
            self._texts.append(data)

    @property
    def pictures(self) -> list[Image.Image]:
        sources = [value for tag, name, value in self.attributes if tag == "img" and name == "src"]
        return [Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1]))) for source in sources]


def bundle_of(room: Room) -> Path:
    """Folder of the bundle of a room."""
    return Path(__file__).parents[2] / "bundles" / room.bundle


def evaluated(handlers: list, items: list[dict]) -> None:
    """Lets handlers of an evaluator see items one by one; ``pred`` is the network's answer, or all of the output."""

    def process(engine: Engine, item: dict) -> list[dict]:
        engine.state.batch = [{key: value for key, value in item.items() if key != "pred"}]
        return [item["pred"] if isinstance(item["pred"], dict) else {"pred": item["pred"]}]

    engine = Engine(process)
    for handler in handlers:
        handler.attach(engine)
    engine.run(items)


def checked(path: Path, most_bytes: int = 4_000_000) -> Page:
    """The page, after everything that holds for any report: nothing is loaded, nothing runs, nothing is missing."""
    source = path.read_text(encoding="utf-8")
    page = Page(source)
    assert len(source) < most_bytes
    active = {"script", "iframe", "object", "embed", "form", "base", "link", "svg", "video", "audio"}
    assert not active & set(page.tags)
    assert not [a for a in page.attributes if a[1].startswith("on") or a[1] in ("href", "srcset", "srcdoc", "action")]
    assert all(
        v.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for _, n, v in page.attributes if n == "src"
    )
    assert not re.findall(r"url\(|@import|https?://|//[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", source))
    policies = [
        value for tag, name, value in page.attributes if tag == "meta" and value.startswith("default-src 'none'")
    ]
    assert len(policies) == 1
    alts = [value for tag, name, value in page.attributes if tag == "img" and name == "alt"]
    assert all(alts)
    assert len(alts) == page.tags.count("img")
    assert "width=device-width" in source
    assert "Intended use and limits" in page.text
    assert "Not a medical device" in page.text
    return page


def shown(path: Path, folder: Path, width: int) -> dict:
    """Measures of a page in a browser window: its width and what is wider, texts that are cut, sizes of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    wrapper = folder / f"measure_{width}.html"
    wrapper.write_text(MEASURING.format(page=html.escape(path.resolve().as_uri()), width=width), encoding="utf-8")
    output = _browse(wrapper, folder, "--dump-dom", "--allow-file-access-from-files", "--window-size=1400,900")
    return json.loads(html.unescape(re.search(r"<pre>(.*?)</pre>", output, re.DOTALL)[1]))


def screenshot(path: Path, folder: Path, width: int, height: int = 2400) -> Image.Image:
    """What a browser shows of a page."""
    picture = folder / f"screen_{width}.png"
    _browse(path, folder, f"--screenshot={picture}", f"--window-size={width},{height}")
    return Image.open(picture).convert("RGB")


def assert_fits(measured: dict) -> None:
    """Nothing is wider than the window, cut, scripted or broken."""
    assert measured["scroll"] <= measured["width"], measured["wide"]
    assert not measured["wide"]
    assert not measured["cut"]
    assert measured["scripts"] == 0
    assert all(natural > 0 and drawn > 40 for natural, drawn in measured["pictures"])


def _browse(path: Path, folder: Path, *options: str) -> str:
    command = [BROWSER, *OPTIONS, f"--user-data-dir={folder / 'browser'}", *options, path.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    shutil.rmtree(folder / "browser", ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
