"""English prose that every Python brings along: the pages of ``help()``, from the standard library's pydoc_data."""

from __future__ import annotations

import re


def english_paragraphs() -> list[str]:
    """Paragraphs of English from Python's own documentation, each once, with single spaces for line breaks.

    Kept is what begins with a capital letter and ends in a full stop or a colon: prose, without listings, tables and
    headings. Pages quote each other; a paragraph counts where it comes first, by the name of its page. So a
    :func:`split` of the paragraphs gives no sentence of the test away.

    Returns:
        The paragraphs; ``"\\n\\n".join(...)`` of them is a text for a language model over characters.

    Raises:
        ModuleNotFoundError: this Python was installed without pydoc_data.

    Source:
        The Python Language Reference and Library Reference, Python Software Foundation. The text grows from one
        version of Python to the next, so a loss measured on it holds for one version.

    >>> paragraphs = english_paragraphs()
    >>> [text[:45] for text in paragraphs if text.startswith("Lambda")]
    ['Lambda expressions (sometimes called lambda f']
    """
    try:
        from pydoc_data.topics import topics
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "english_paragraphs: expected the standard library's pydoc_data, and found none; "
            "install the whole standard library (some Linux distributions part it)",
            name="pydoc_data",
        ) from error
    blocks = (block for name in sorted(topics) for block in re.split(r"\n\s*\n", topics[name]))
    joined = (" ".join(block.split()).removeprefix("* ") for block in blocks)
    return list(dict.fromkeys(text for text in joined if re.fullmatch(r"[A-Z].*[a-z].*[.:]", text)))
