"""A browser shows a report without a complaint, loads nothing for it, and needs no sideways scrolling."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading

import matplotlib.image
import pytest
from written_runs import write_run, write_search

from po2quant.report.document import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: {', '.join(BROWSERS)} are not installed")
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    return write_report([write_run(folder / "run"), write_search(folder / "search")], folder / "report.html")


def open_page(browser, address, *options):
    words = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *options, address]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 500])
def test_a_browser_draws_the_report_without_an_error(browser, report, tmp_path, width):
    picture = tmp_path / "page.png"
    done = open_page(browser, report.as_uri(), f"--window-size={width},3000", f"--screenshot={picture}")
    assert "CONSOLE" not in done.stderr
    pixels = matplotlib.image.imread(picture)[..., :3]
    assert pixels.shape[1] == width
    assert pixels.std() > 0.05


@pytest.mark.slow
def test_a_browser_asks_for_no_other_file(browser, report):
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    serve = functools.partial(Handler, directory=str(report.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = open_page(browser, f"http://127.0.0.1:{server.server_port}/report.html", "--dump-dom")
        server.shutdown()
    assert "Learning curves" in done.stdout
    assert set(asked) <= {"/report.html", "/favicon.ico"}, "a favicon is what browsers ask every server for"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_fits_its_window(browser, report, tmp_path, width):
    """A frame has the width that is asked for, which a window of a browser has not below 500 pixels."""
    framed = tmp_path / "framed.html"
    text = report.read_text(encoding="utf-8")
    inner = text[: text.index("<meta http-equiv")] + text[text.index("<title>") :]
    (tmp_path / "inner.html").write_text(inner, encoding="utf-8")
    measure = "f.onload = () => { const d = f.contentDocument.documentElement; document.title = d.scrollWidth }"
    framed.write_text(
        f'<iframe id="f" src="inner.html" width="{width}" height="900"></iframe><script>{measure}</script>'
    )
    done = open_page(
        browser, framed.as_uri(), "--allow-file-access-from-files", "--virtual-time-budget=5000", "--dump-dom"
    )
    title = done.stdout.split("<title>")[1].split("</title>")[0]
    assert int(title) <= width
