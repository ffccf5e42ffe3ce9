"""Links to figures and tables, and quotes that become boxes: what the extensions make of a page, and warn of."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).resolve().parents[1]
CONF = f"""
import sys
sys.path.insert(0, {str(ROOT / "ext")!r})
extensions = ["myst_parser", "sphinxcontrib.bibtex", "anchors", "boxes"]
bibtex_bibfiles = []
"""
FIGURE = """
<figure class="seqlab-figure seqlab-explore" id="fig-power">
<figcaption><strong>Figure 1.2</strong></figcaption></figure>
"""
TABLE = """
<div class="seqlab-table seqlab-stack" id="table-1-1"><table><caption><strong>Table 1.1</strong></caption></table></div>
"""

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::PendingDeprecationWarning", "ignore::ResourceWarning"
)


@pytest.fixture
def build(tmp_path):
    def build(text: str, other: str = "") -> tuple[str, str]:
        """Return the page as HTML, and what was warned of."""
        (tmp_path / "conf.py").write_text(CONF)
        (tmp_path / "index.md").write_text(f"# Page\n{FIGURE}{TABLE}\n{text}\n\n```{{toctree}}\nother\n```\n")
        (tmp_path / "other.md").write_text(f"# Other\n\n{other}\n")
        warnings = io.StringIO()
        with docutils_namespace():
            folders = [tmp_path, tmp_path, tmp_path / "out", tmp_path / "trees"]
            Sphinx(*map(str, folders), "html", status=None, warning=warnings).build()
        return (tmp_path / "out" / "index.html").read_text(), warnings.getvalue()

    return build


def test_a_link_to_a_figure_or_table_is_good_from_its_page_and_from_another(build):
    page, warned = build("[Figure 1.2](#fig-power), [the *table*](#table-1-1)", "[Figure 1.2](index.md#fig-power)")
    assert warned == ""
    assert re.search(r'href="#fig-power"><span[^>]*>Figure 1.2</span></a>', page)
    assert re.search(r'href="#table-1-1"><span[^>]*>the <em>table</em></span></a>', page)


def test_a_wrong_number_and_a_figure_that_is_not_there_are_warned_of(build):
    _, warned = build("[Figure 1.3](#fig-power) and [Figure 1.1](#fig-none)", "[A](index.md#fig-none)")
    assert "expected a link to #fig-power to say 'Figure 1.2', got 'Figure 1.3'" in warned
    assert "'myst' cross-reference target not found: 'fig-none'" in warned
    assert "local id not found in doc 'index': 'fig-none'" in warned
    assert warned.count("WARNING") == 3


@pytest.mark.parametrize(
    ("begin", "box"),
    [
        ("**What to do.** Clip.", "what-to-do"),
        ("**What to do**\n>\n> - Clip.", "what-to-do"),
        ("**Predict:** what is left?", "predict"),
        ("**Predicted** was less.", None),
        ("Predict.", None),
        ("- **Predict.** In a list.", None),
    ],
)
def test_quotes_become_boxes(build, begin, box):
    page, warned = build(f"> {begin}")
    assert warned == ""
    assert (f'<blockquote class="{box}">' if box else "<blockquote>") in page
