"""What the repository promises as a set of files: addresses, pins, workflows, commands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("**/*.ipynb"))
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]
SLUG = ADDRESS["url"].removeprefix("https://github.com/")

workflows = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def stamp(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/stamp.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def texts() -> dict[str, str]:
    """Every text file that is, or is about to be, in the repository, apart from what others wrote."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    found = {}
    for name in listed:
        path = ROOT / name
        if path.is_file() and path.suffix != ".png" and not name.startswith("assets/vendor/"):
            found[name] = path.read_text(encoding="utf-8")
    return found


# The address stands in one place.


def test_the_address_is_stamped_everywhere():
    checked = stamp(ROOT, "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    """A copy of what the stamping tool reads and writes."""
    for name in ["_config.yml", "README.md", "CITATION.cff", "tools/stamp.py", "book", "notebooks"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy(source, tmp_path / name)
    return tmp_path


def test_a_fork_stamps_its_own_address(fork):
    assert stamp(fork, "--repository", "A-Reader/her.copy", "--branch", "dev").returncode == 0
    assert stamp(fork, "--check").returncode == 0
    stamped = {path: path.read_text() for path in fork.rglob("*") if path.suffix in (".md", ".ipynb", ".yml", ".cff")}
    assert not [path.name for path, text in stamped.items() if SLUG in text]
    assert "https://a-reader.github.io/her.copy/" in stamped[fork / "README.md"]
    for path in fork.glob("notebooks/**/*.ipynb"):
        assert "git+https://github.com/A-Reader/her.copy@dev" in stamped[path]


def test_a_stale_address_is_found_and_named(fork):
    page = fork / "book" / "intro.md"
    page.write_text(page.read_text() + '\n%pip install "git+https://github.com/some-body/else@main"\n')
    checked = stamp(fork, "--check")
    assert checked.returncode == 1
    assert "book/intro.md" in checked.stdout


def test_stamping_leaves_the_addresses_of_others_alone(fork):
    page = fork / "book" / "intro.md"
    others = "\n<https://colah.github.io/posts/2015-08-Understanding-LSTMs/> and <https://github.com/pytorch/pytorch>\n"
    page.write_text(page.read_text() + others)
    assert stamp(fork, "--repository", "a-reader/copy").returncode == 0
    assert page.read_text().endswith(others)


# Workflows


def test_there_are_the_workflows_that_the_readme_tells_of():
    assert [path.stem for path in WORKFLOWS] == ["cold", "pages", "tests"]


@workflows
def test_actions_are_pinned_by_commit_and_say_their_version(path):
    used = re.findall(r"uses:(.*)", path.read_text())
    assert used
    for line in used:
        assert re.fullmatch(r" [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_commit_in_all_workflows():
    used = re.findall(r"uses: ([\w-]+/[\w-]+)@(\S+)", "".join(path.read_text() for path in WORKFLOWS))
    assert len(set(used)) == len({name for name, _ in used})


@workflows
def test_permissions_are_the_least(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    more = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert more == ({"deploy": {"pages": "write", "id-token": "write"}} if path.stem == "pages" else {})


@workflows
def test_jobs_end_and_install_torch_without_cuda(path):
    for name, job in yaml.safe_load(path.read_text())["jobs"].items():
        assert job["timeout-minutes"] <= 90
        if name != "deploy":
            assert job["env"]["PIP_EXTRA_INDEX_URL"] == "https://download.pytorch.org/whl/cpu"


def test_the_tests_run_on_every_python_that_is_promised():
    job = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]["tests"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert project()["requires-python"] == ">=3.11"


def test_outside_addresses_are_asked_once_a_week():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "cold.yml").read_text())
    assert workflow[True]["schedule"] == [{"cron": "17 4 * * 1"}]  # YAML reads the key `on` as true
    assert "make links" in [step.get("run") for step in workflow["jobs"]["links"]["steps"]]


def test_pages_are_published_from_main_only_and_stamped_first():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "pages.yml").read_text())["jobs"]
    assert jobs["build"]["if"] == "github.ref == 'refs/heads/main'"
    assert jobs["deploy"]["needs"] == "build"
    steps = [step.get("run", step.get("uses", "")) for step in jobs["build"]["steps"]]
    order = [next(i for i, step in enumerate(steps) if part in step) for part in ["stamp.py", "make book", "upload"]]
    assert order == sorted(order)


# Pins


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_requirements_pin_exactly_and_once():
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    pins = [line for line in lines if line]
    assert not [pin for pin in pins if not re.fullmatch(r"[a-z0-9._-]+==[0-9][0-9a-z.]*", pin)]
    names = [pin.split("==")[0] for pin in pins]
    assert len(names) == len(set(names))


def test_the_package_has_lower_bounds_only():
    """Colab must be able to keep its own torch."""
    settings = project()
    groups = settings["optional-dependencies"].values()
    wanted = [*settings["dependencies"], *(bound for group in groups for bound in group)]
    assert not [bound for bound in wanted if not re.fullmatch(r"[a-z0-9-]+>=\d+(\.\d+)*", bound)]


# Commands and cells


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "book/how-to-use.md", ".ci/run"])
def test_commands_exist_in_the_makefile(name):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / name).read_text()
    quoted = [*re.findall(r"```\w*\n(.*?)```", text, re.DOTALL), *re.findall(r"`(make [^`]+)`", text)]
    lines = [line for block in quoted for line in re.findall(r"make ((?:[a-z-]+ ?)+)", block)]
    told = {target for line in lines for target in line.split()}
    if name == ".ci/run":
        told = set(re.findall(r"for target in ([\w -]+);", text)[0].split())
    assert told
    assert told <= targets


def test_ci_calls_what_the_readme_calls():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    text = script.read_text()
    assert "set -euo pipefail" in text
    assert "for target in book test lint" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_notebook_begins_with_a_setup_cell_that_suits_colab(path):
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert 'importlib.util.find_spec("seqlab") is None' in cells[0]
    assert f'"git+{ADDRESS["url"]}@{ADDRESS["branch"]}"' in cells[0]
    assert "%pip install -q --no-deps" in cells[0]
    assert "raise ImportError(" in cells[0]
    assert not [cell for cell in cells[1:] if re.search(r"^\s*[!%]", cell, re.MULTILINE)]


def test_nothing_names_one_machine_or_a_package_host():
    """A path or an index that only one machine has makes a clone fail elsewhere."""
    paths = re.compile(r"""(?:^|[\s"'`=(:])/(?:work|root|home|Users|mnt|tmp)/""", re.MULTILINE)
    index = re.compile(r"(?:index[-_]url|find-links|trusted-host)[\"' =:]+(\S+)", re.IGNORECASE)
    for name, text in texts().items():
        assert not paths.findall(text), name
        if name != "tests/test_repository.py":
            assert set(index.findall(text)) <= {"https://download.pytorch.org/whl/cpu"}, name
