"""Make the pages light, self-contained and addressed.

- What Jupyter Book and its theme add to every page but this book never uses is taken out: the script of the live-code
  button (which it declares even when the button is off), and the 1.5 MB script that draws icons. The icons come from
  the theme's icon fonts instead, cut down to the glyphs in use.
- Published addresses (canonical links, sitemap, social card, 404 page) are derived from the repository's address.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from fontTools import subset
from sphinx.application import Sphinx
from sphinx.config import Config


def derive_addresses(app: Sphinx, config: Config) -> None:
    """Set the addresses that follow from `repository.url`, unless `html.baseurl` names another place."""
    url = config.html_theme_options.get("repository_url", "")
    owner, name = url.removeprefix("https://github.com/").split("/")
    config.html_baseurl = config.html_baseurl or f"https://{owner.lower()}.github.io/{name}/"
    config.ogp_site_url = config.html_baseurl
    # Or a header that the book theme hides takes the clicks meant for its own buttons, and no sidebar opens on a phone.
    config.html_theme_options["navbar_persistent"] = []
    config.notfound_urls_prefix = urlsplit(config.html_baseurl).path


def drop_unused(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Keep only the scripts and styles that a page of this book uses."""

    def used(asset: object) -> bool:
        body = getattr(asset, "attributes", {}).get("body") or ""
        return not ("thebe" in str(asset).lower() or "THEBE" in body)

    context["script_files"] = [asset for asset in context.get("script_files", []) if used(asset)]
    context["css_files"] = [asset for asset in context.get("css_files", []) if used(asset)]


def slim_icons(app: Sphinx, exception: Exception | None) -> None:
    """Remove the icon script from every page and cut the icon fonts down to the glyphs that the pages use."""
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    names: set[str] = set()
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        slim = re.sub(r"\s*<!-- So that users can add custom icons -->", "", text)
        slim = re.sub(r'\s*<script defer src="[^"]*scripts/fontawesome\.js[^"]*"></script>', "", slim)
        if slim != text:
            page.write_text(slim, encoding="utf-8")
        names.update(re.findall(r"\bfa-[a-z0-9-]+", slim))
    for script in (out / "_static").rglob("*.js"):
        if "fontawesome" not in script.name and "vendor" not in script.parts:
            names.update(re.findall(r"\bfa-[a-z0-9-]+", script.read_text(encoding="utf-8")))

    glyphs: set[int] = set()
    for sheet in (out / "_static").rglob("*.css"):
        for selector, body in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet.read_text(encoding="utf-8")):
            of_icon = set(re.findall(r"\.(fa-[a-z0-9-]+)", selector))
            if not of_icon or of_icon & names:
                glyphs.update(int(code, 16) for code in re.findall(r'"\\([ef][0-9a-f]{3})"', body))
    for font in (out / "_static" / "vendor" / "fontawesome" / "webfonts").iterdir():
        if font.suffix != ".woff2":
            font.unlink()
            continue
        options = subset.Options(flavor="woff2")
        loaded = subset.load_font(str(font), options)
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=glyphs)
        cutter.subset(loaded)
        subset.save_font(loaded, str(font), options)
    (out / "_static" / "scripts" / "fontawesome.js").unlink(missing_ok=True)
    for unread in (out / "_static").rglob("*.map"):
        unread.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("config-inited", derive_addresses, priority=0)
    app.connect("html-page-context", drop_unused, priority=990)
    app.connect("build-finished", slim_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
