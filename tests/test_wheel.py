"""The wheel as a user gets it: built, installed into an empty environment, used from another folder."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

LIMIT = 240
"""Seconds; an environment with a warm package cache takes about 25."""


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=LIMIT, check=False)
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ".", cwd=repository)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(repository, wheel, tmp_path_factory):
    """Folder of the programs of an environment that holds the wheel and its locked dependencies only."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(place, with_pip=False, symlinks=True)
    programs = place / "bin"
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet", "--no-compile")
    run(*pip, "--require-hashes", "--requirement", repository / "requirements.lock", cwd=place)
    run(*pip, "--no-deps", "--no-index", wheel, cwd=place)
    return programs


def test_the_wheel_holds_the_four_packages_with_their_data_and_nothing_else(wheel, repository):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"edge_agent", "drivers", "buffer", "config"}
    tracked = run("git", "ls-files", "edge_agent", "drivers", "buffer", "config", cwd=repository).stdout.split()
    assert set(tracked) <= set(names)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


@pytest.mark.parametrize("arguments", [["--help"], ["version"]])
def test_the_installed_command_runs_from_any_folder(installed, tmp_path, arguments):
    done = run(installed / "edge-agent", *arguments, cwd=tmp_path)
    assert done.stdout
    assert done.stderr == ""


def test_the_installed_command_validates_the_demo_configuration(installed, tmp_path):
    (shipped,) = installed.parent.rglob("site-packages/edge_agent/demo/demo.yaml")
    done = run(installed / "edge-agent", "validate", shipped, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_foreign_package_with_the_name_of_ours_is_told_in_one_sentence(installed, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "__init__.py").write_text("", encoding="utf-8")
    done = run("env", f"PYTHONPATH={tmp_path}", installed / "edge-agent", "version", cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert "config" in done.stderr
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
