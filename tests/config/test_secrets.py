import os
from pathlib import Path

import pytest

from config.errors import Problem
from config.model import Mqtt, Secret
from config.secrets import masked, resolve


def test_a_secret_comes_from_the_environment(tmp_path: Path) -> None:
    assert resolve(Secret(env="PW"), base_dir=tmp_path, environ={"PW": "hunter2"}) == "hunter2"
    with pytest.raises(Problem, match="PW is not set"):
        resolve(Secret(env="PW"), base_dir=tmp_path, environ={})


def test_a_secret_comes_from_a_file_that_its_owner_alone_can_read(tmp_path: Path) -> None:
    path = tmp_path / "pw.txt"
    path.write_text("hunter2\n")
    path.chmod(0o600)
    assert resolve(Secret(file="pw.txt"), base_dir=tmp_path, environ={}) == "hunter2"
    path.chmod(0o640)
    if os.name == "posix":
        with pytest.raises(Problem, match=r"can be read by others \(mode 0640\)") as refused:
            resolve(Secret(file="pw.txt"), base_dir=tmp_path, environ={})
        assert refused.value.fix == f"chmod 600 {path}"


def test_a_secret_comes_from_systemd(tmp_path: Path) -> None:
    (tmp_path / "mqtt_password").write_text("hunter2")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert resolve(Secret(credential="mqtt_password"), base_dir=Path("/"), environ=environ) == "hunter2"
    with pytest.raises(Problem, match="systemd"):
        resolve(Secret(credential="mqtt_password"), base_dir=Path("/"), environ={})
    with pytest.raises(Problem, match="not the name of a credential"):
        resolve(Secret(credential="../shadow"), base_dir=Path("/"), environ=environ)
    with pytest.raises(Problem, match="cannot read the secret") as refused:
        resolve(Secret(credential="other"), base_dir=Path("/"), environ=environ)
    assert "LoadCredential=other" in refused.value.fix


def test_a_file_that_is_missing_or_no_text_is_named_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"pw\.txt: No such file"):
        resolve(Secret(file="pw.txt"), base_dir=tmp_path, environ={})
    path = tmp_path / "pw.txt"
    path.write_bytes(b"hunter2\xff")
    path.chmod(0o600)
    with pytest.raises(Problem) as refused:
        resolve(Secret(file="pw.txt"), base_dir=tmp_path, environ={})
    assert "hunter2" not in str(refused.value)


def test_a_secret_is_in_no_representation() -> None:
    mqtt = Mqtt(password="hunter2")
    assert "hunter2" not in repr(mqtt)
    assert "hunter2" not in str(mqtt)
    assert masked(mqtt.model_dump())["password"] == "***"
    assert masked({"password": {"env": "PW"}}) == {"password": {"env": "PW"}}


@pytest.mark.parametrize("kept", [Secret(env="PW"), Secret(file="pw.txt"), "", Secret(credential="pw.txt")])
def test_an_empty_secret_is_refused_for_whoever_shows_nothing_would_know_it(
    tmp_path: Path, kept: Secret | str
) -> None:
    (tmp_path / "pw.txt").write_text("\n")
    (tmp_path / "pw.txt").chmod(0o600)
    with pytest.raises(Problem, match="empty"):
        resolve(kept, base_dir=tmp_path, environ={"PW": "", "CREDENTIALS_DIRECTORY": str(tmp_path)})
