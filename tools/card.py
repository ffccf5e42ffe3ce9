"""Draw assets/card.png, the picture that other sites show with a link to the book, from the logo and the title.

Run it after a change of either: python tools/card.py
"""

from __future__ import annotations

from pathlib import Path

import yaml
from browsers import find_browser
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
CARD = """<!doctype html><style>
body {{ display: flex; align-items: center; gap: 70px; height: 630px; margin: 0; padding: 0 90px;
  box-sizing: border-box; background: #fff; color: #1b1f24; font-family: "DejaVu Sans", sans-serif; }}
svg {{ flex: none; width: 330px; }} h1 {{ margin: 0; font-size: 76px; line-height: 1.15; }}
p {{ margin: 28px 0 0; color: #48566b; font-size: 33px; line-height: 1.4; text-wrap: balance; }}
</style>{logo}<div><h1>{title}</h1><p>From recurrence to attention, measured.</p></div>"""


def main() -> None:
    """Draw the card."""
    title = yaml.safe_load((ROOT / "_config.yml").read_text())["title"]
    logo = (ROOT / "assets" / "logo.svg").read_text()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1200, "height": 630})
        page.set_content(CARD.format(logo=logo, title=title))
        page.screenshot(path=ROOT / "assets" / "card.png")
        browser.close()


if __name__ == "__main__":
    main()
