"""What `make` says and does on a machine where something is missing."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture
def machine(tmp_path):
    """A folder that is all of PATH. Call it with programs as name → script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "env", "rm"):
        (folder / tool).symlink_to(shutil.which(tool))

    def add(**programs):
        for name, script in programs.items():
            program = folder / name.replace("_", "-")
            program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            program.chmod(0o755)
        return folder

    return add


def call(script, path, *arguments, **environment):
    return subprocess.run(
        [script, *arguments],
        env={"PATH": str(path), "HOME": os.environ.get("HOME", "/"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


NOBODY = {"id": "echo 1000", "sudo": "exit 1", "apt_get": "exit 1"}
INSTALL = "apt-get install --yes --no-install-recommends no-such-package"


@pytest.fixture
def wanting(repository, tmp_path):
    """The script, asking for a program that no machine has."""
    text = (repository / "packaging/system-packages.sh").read_text(encoding="utf-8")
    script = tmp_path / "system-packages.sh"
    script.write_text(text.replace("[npm]=npm", "[npm]=npm [no-such-program]=no-such-package"), encoding="utf-8")
    script.chmod(0o755)
    return script


def test_without_the_right_to_install_the_line_to_install_with_is_printed(wanting, machine):
    done = call(wanting, machine(**NOBODY), "no-such-program")
    assert done.returncode == 0
    assert f"sudo {INSTALL}" in done.stderr


def test_in_ci_a_missing_package_is_a_failure(wanting, machine):
    done = call(wanting, machine(**NOBODY), "no-such-program", CI="true")
    assert done.returncode == 1
    assert f"sudo {INSTALL}" in done.stderr


@pytest.mark.parametrize(("user", "sudo"), [("0", "exit 1"), ("1000", 'shift; exec "$@"')])
def test_who_may_install_gets_what_is_missing(wanting, machine, tmp_path, user, sudo):
    log = tmp_path / "log"
    path = machine(id=f"echo {user}", sudo=sudo, apt_get=f'echo "apt-get $*" >> {log}', true="exit 0")
    done = call(wanting, path, "no-such-program", CI="true")
    assert done.returncode == 0, done.stderr
    assert INSTALL in log.read_text(encoding="utf-8")


def test_what_is_there_is_not_installed_again(repository, machine):
    path = machine(mosquitto="exit 0", **NOBODY)
    done = call(repository / "packaging/system-packages.sh", path, "mosquitto", CI="true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ('case "$2" in *version_info*) exit 1;; esac', "Python 3.11 or newer is needed"),
        (
            'case "$2" in *version_info*) exit 0;; *ensurepip*) exit 1;; esac; echo Python 3.11.2',
            "Python 3.11.2 has no venv module",
        ),
    ],
)
def test_a_python_that_is_too_old_or_has_no_venv_is_one_sentence_and_a_line(
    repository, machine, tmp_path, python, said
):
    path = machine(python3=python)
    done = call(repository / "packaging/create-venv.sh", path, tmp_path / "venv")
    assert done.returncode == 1
    assert said in done.stderr
    assert "sudo apt-get install --yes python3 python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()
