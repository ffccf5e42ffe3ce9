"""Write the repository's address, which stands in _config.yml, wherever else it is needed.

`--check` only compares. `--repository OWNER/NAME [--branch B]` first sets the address in _config.yml, which is how
the publishing workflow lets a fork publish links to itself.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "_config.yml"


def pages_address(slug: str) -> str:
    """Where GitHub Pages publishes a repository."""
    owner, name = slug.split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


def rules(slug: str, branch: str, old: str) -> list[tuple[str, str]]:
    """Pairs of pattern and replacement that put the address into a text.

    Besides the old address, the one that this project was written with is replaced: two hyphens in a row stand in no
    name on GitHub, so that no address of others is met.
    """
    return [
        (r"git\+https://github\.com/[\w.-]+/[\w.-]+?@[\w./-]+", f"git+https://github.com/{slug}@{branch}"),
        (r"(colab\.research\.google\.com/github)/[\w.-]+/[\w.-]+/blob/[\w.-]+/", rf"\1/{slug}/blob/{branch}/"),
        (rf"{re.escape(pages_address(old))}|https://\w+--[\w-]+\.github\.io/[\w.-]+/", pages_address(slug)),
        (rf"https://github\.com/(?:{re.escape(old)}|[\w.-]+--[\w.-]+/[\w.-]+)", f"https://github.com/{slug}"),
    ]


def main() -> int:
    """Stamp, or report what is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--repository", metavar="OWNER/NAME")
    parser.add_argument("--branch", default=None)
    options = parser.parse_args()

    settings = yaml.safe_load(CONFIG.read_text())["repository"]
    old = settings["url"].removeprefix("https://github.com/")
    slug, branch = options.repository or old, options.branch or settings["branch"]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", slug):
        parser.error(f"--repository: expected OWNER/NAME, got {slug!r}")

    files = [*ROOT.glob("notebooks/**/*.ipynb"), *ROOT.glob("book/*.md"), ROOT / "README.md", ROOT / "CITATION.cff"]
    stale = []
    if slug != old or branch != settings["branch"]:
        text = CONFIG.read_text().replace(f"url: {settings['url']}", f"url: https://github.com/{slug}")
        CONFIG.write_text(text.replace(f"branch: {settings['branch']}", f"branch: {branch}"))
    for path in files:
        before = after = path.read_text()
        for pattern, replacement in rules(slug, branch, old):
            after = re.sub(pattern, replacement, after)
        if after != before:
            stale.append(str(path.relative_to(ROOT)))
            if not options.check:
                path.write_text(after)
    if options.check and stale:
        print(f"the repository's address is stale in {', '.join(stale)}: run `make stamp`")
        return 1
    print("stamped: " + (", ".join(stale) or "nothing to change"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
