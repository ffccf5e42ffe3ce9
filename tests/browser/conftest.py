"""Fixtures for tests in a real browser: the machine's own Chromium, driven by playwright.

``page`` is a fresh one, ``opened`` one of the book that was loaded once for all tests of it. Both fail the test at its
end if the page logged an error or asked another host for anything; ``problems`` is the list that ``page`` keeps, for
tests that plant such a thing. SEQLAB_NO_BROWSER=1 skips these tests.
"""

from __future__ import annotations

import functools
import http.server
import os
import runpy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from pages import BOOK, Loaded, published, visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "browsers.py"))
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if os.environ.get("SEQLAB_NO_BROWSER"):
        pytest.skip("SEQLAB_NO_BROWSER=1: tests in a browser are left out")
    executable = BROWSERS["find_browser"]()
    if executable is None:
        pytest.fail(
            f"no browser: expected one of {', '.join(BROWSERS['NAMES'])} on the PATH; install it (Debian, Ubuntu: "
            "apt-get install chromium) or leave these tests out with SEQLAB_NO_BROWSER=1",
            pytrace=False,
        )
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail("no playwright: pip install -r requirements.txt, or set SEQLAB_NO_BROWSER=1", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def problems() -> list[str]:
    """Console errors, uncaught exceptions and requests to other hosts, as ``page`` meets them."""
    return []


@contextmanager
def watched(browser: Browser, problems: list[str]) -> Iterator[Page]:
    """A page whose problems are noted."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})

    def pass_or_cut(route: Any) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("http", "https") and address.hostname not in ("127.0.0.1", "localhost"):
            problems.append(f"outside request: {route.request.url}")
            route.abort()
        else:
            route.continue_()

    context.route("**/*", pass_or_cut)
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("console", lambda m: problems.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(f"uncaught: {error}"))
    yield page
    context.close()


@pytest.fixture
def page(browser: Browser, problems: list[str]) -> Iterator[Page]:
    with watched(browser, problems) as page:
        yield page
    assert not problems


@pytest.fixture(scope="session")
def kept(request: pytest.FixtureRequest, browser: Browser, site: str) -> Iterator[Loaded]:
    """The page of the book that the mark names, loaded and typeset."""
    problems: list[str] = []
    with watched(browser, problems) as page:
        loaded = Loaded(request.param, f"{site}/{request.param}", page, problems, [])
        page.on("response", lambda answer: loaded.answers.append(answer))  # playwright takes no built-in
        visit(page, loaded.address)
        page.wait_for_load_state("networkidle")
        yield loaded


@pytest.fixture
def opened(kept: Loaded) -> Iterator[Page]:
    """That page, as wide and as bright as it was at first."""
    kept.page.set_viewport_size({"width": 1000, "height": 800})
    kept.page.emulate_media(color_scheme="light")
    yield kept.page
    problems = kept.problems.copy()
    kept.problems.clear()
    assert not problems
    assert kept.page.url.partition("#")[0] == kept.address, "the test left another page to those that follow"


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], str]]:
    """``serve(folder)`` returns the address, without a slash at its end, under which the folder is served."""
    servers = []

    @functools.cache
    def serve(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_QuietHandler, directory=str(folder))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="session")
def site(serve: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of the book on this machine, under the same path as where it is published."""
    folder = tmp_path_factory.mktemp("host")
    place = folder / urlsplit(published()).path.strip("/")
    if place == folder:
        return serve(BOOK)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(BOOK)
    return f"{serve(folder)}/{place.relative_to(folder)}"


@pytest.fixture(scope="session")
def axe() -> Callable[..., list[str]]:
    """``axe(page, context=None)`` returns what axe-core objects to, one line a violation."""
    from axe_playwright_python.sync_playwright import Axe

    def run(page: Page, context: Any = None) -> list[str]:
        # preload: axe resolves the theme's @import of a style sheet wrongly, and its 404 would count against the page
        options = {"preload": False, "resultTypes": ["violations"]}
        violations = Axe().run(page, context=context, options=options).response["violations"]
        return [f"{v['id']}: {node['html'][:160]}" for v in violations for node in v["nodes"]]

    return run


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
