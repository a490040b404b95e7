"""What the documents say is so: links lead somewhere, the README's configuration is sound, no registry is named."""

import re
import subprocess

import pytest

from config.errors import ConfigFaults
from edge_agent.cli.loading import read

LINK = re.compile(r"\]\(([^)#\s]+)")
REGISTRIES = ("pypi" + ".org", "files.python" + "hosted", "registry." + "npmjs", "deb." + "debian")


def tracked(repository, *patterns):
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=repository, capture_output=True, check=True)
    return [repository / name for name in listed.stdout.decode().split("\0") if name]


def test_every_link_between_documents_leads_to_a_file(repository):
    dead = [
        f"{page.relative_to(repository)}: {link}"
        for page in tracked(repository, "*.md")
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if "://" not in link and not (page.parent / link).exists()
    ]
    assert dead == []


def test_the_configuration_in_the_readme_is_sound(repository, tmp_path):
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (repository / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    file = tmp_path / "edge-agent.yaml"
    file.write_text(block, encoding="utf-8")
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "plant-ca.pem").touch()
    try:
        assert read(file).warnings == ()
    except ConfigFaults as broken:
        pytest.fail("\n".join(fault.render() for fault in broken.faults))


def test_no_file_names_a_package_registry(repository):
    named = []
    for file in tracked(repository):
        text = file.read_text(encoding="utf-8", errors="ignore") if file.is_file() else ""
        named += [f"{file.relative_to(repository)}: {host}" for host in REGISTRIES if host in text]
    assert named == []
