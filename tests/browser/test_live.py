"""The explorable figure with a kernel behind it: JupyterLab runs a notebook, and its slider draws anew."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import TimeoutError

pytestmark = pytest.mark.browser

FIGURE = """
from seqbook.interactive import explore, slider
from seqbook.plotting import new_figure

def power(W):
    figure, ax = new_figure()
    ax.plot([W**k for k in range(50)])
    return figure

explore(power, name="power", alt="{W} multiplied 49 times", W=slider([0.8, 0.9, 1.1], label="factor"))
"""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[str]:
    """The address of a JupyterLab whose folder holds one notebook."""
    notebook = new_notebook(cells=[new_code_cell(FIGURE)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "figure.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=", "--allow-root"]
    home = {**os.environ, "HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={tmp_path}"],
        stdout=log,
        stderr=log,
        env=home,
    )
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urlopen(f"{address}/api/status").close()
            break
        except (URLError, ConnectionError):
            time.sleep(0.5)
    else:
        pytest.fail("JupyterLab did not start:\n" + (tmp_path / "lab.log").read_text()[-2000:])
    yield address
    server.terminate()
    server.wait(timeout=20)
    log.close()


def test_a_slider_moved_in_jupyterlab_draws_anew(lab, browser):
    page = browser.new_context(viewport={"width": 1200, "height": 1000}).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{lab}/lab/tree/figure.ipynb")
    page.locator("[data-status=idle]").first.wait_for()  # the kernel is there
    slider = page.locator(".jp-OutputArea .widget-hslider [role=slider], .jp-OutputArea .noUi-handle").first
    for last in (False, False, True):  # a key pressed while JupyterLab still lays itself out is lost
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Control+Enter")
        try:
            slider.wait_for(timeout=60_000 if last else 15_000)
            break
        except TimeoutError:
            if last:
                raise
    picture = page.locator(".jp-OutputArea svg[role=img]").first
    assert picture.get_attribute("aria-label") == "0.8 multiplied 49 times"
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.locator(".jp-OutputArea svg[aria-label='0.9 multiplied 49 times']").first.wait_for()
    assert re.search(r"<path", page.locator(".jp-OutputArea svg[role=img]").first.inner_html())
    page.context.close()
