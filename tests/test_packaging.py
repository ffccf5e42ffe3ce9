"""What `pip install` brings: two packages in one wheel, what each needs, and the licences of both."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])


def build(source: Path, target: str, folder: Path) -> Path:
    """Build a wheel or an sdist from a source tree into a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (path,) = folder.iterdir()
    return path


def names(wheel: Path) -> set[str]:
    """The files of a wheel, without its own index."""
    return {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("RECORD")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel):
    archive = zipfile.ZipFile(wheel)
    (path,) = (name for name in archive.namelist() if name.endswith("METADATA"))
    return message_from_string(archive.read(path).decode())


def test_a_wheel_holds_both_packages_the_recordings_and_nothing_else(wheel):
    info = next(name.partition("/")[0] for name in names(wheel) if ".dist-info/" in name)
    ours = {path for folder in ("seqlab", "seqbook") for path in (ROOT / "src" / folder).rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(ROOT / "src")) for path in ours if "__pycache__" not in path.parts}
    wanted |= {f"seqbook/recorded/{path.name}" for path in (ROOT / "experiments" / "results").glob("*.json")}
    wanted |= {f"{info}/{name}" for name in ("METADATA", "WHEEL", "licenses/LICENSE", "licenses/LICENSE-text")}
    assert names(wheel) == wanted


def test_the_licences_of_code_and_prose_are_named(metadata):
    assert metadata["License-Expression"] == "BSD-3-Clause AND CC-BY-4.0"
    assert metadata.get_all("License-File") == ["LICENSE", "LICENSE-text"]


def test_the_library_requires_torch_and_numpy_alone(metadata):
    required = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert {re.split(r"[><=;]", line)[0] for line in required} == {"torch", "numpy"}


def test_every_extra_that_is_named_exists():
    files = [ROOT / "README.md", *(ROOT / "book").glob("*.md"), *(ROOT / "src").rglob("*.py")]
    named = {name for path in files for name in re.findall(r"seqlab\[(\w+)\]", path.read_text(encoding="utf-8"))}
    assert named
    assert named <= EXTRAS


def test_an_sdist_is_small_and_makes_the_same_wheel(wheel, tmp_path):
    sdist = build(ROOT, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        files = [name.partition("/")[2] for name in archive.getnames()]
        archive.extractall(tmp_path / "unpacked", filter="data")
    assert not [name for name in files if name.startswith(("assets", "notebooks"))]
    assert sdist.stat().st_size < 500_000
    (source,) = (tmp_path / "unpacked").iterdir()
    assert names(build(source, "wheel", tmp_path / "again")) == names(wheel)


def test_an_installed_book_finds_its_files(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import seqbook, seqlab
from seqbook.interactive import explore
from seqbook.plotting import new_figure
from seqbook.recorded import recorded
assert seqbook.__file__.startswith({str(tmp_path)!r}) and seqlab.__file__.startswith({str(tmp_path)!r})
assert recorded("longest_lag")["results"] and seqbook.registry()
figure = explore(lambda k: new_figure()[0], name="a", alt="b", k=[1, 2])
assert "seqlab-explore" in figure._repr_mimebundle_()["text/html"]
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
