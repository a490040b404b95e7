"""What a driver's own models may say, and where it appears."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import field_validator, model_validator
from pydantic_core import PydanticCustomError

from config.errors import ConfigFaults, Fault, Problem
from config.load import load_source
from config.model import DeviceOptions, File, Name, Options, Scalar, TagOptions, Warned
from config.source import decoded
from config.units import Duration

HEAD = "version: 1\nsite: {enterprise: e, site: s, area: a}\n"


class Extra(Options):
    mode: Literal["fast", "slow"] = "fast"
    after: Duration = 0


class ToyTag(TagOptions):
    at: int
    value: Scalar = 0
    type: Literal["int16", "string"] = "int16"

    @field_validator("at")
    @classmethod
    def _even(cls, at: int) -> int:
        if at % 2:
            raise Problem("E309", "'at' must be even", why="two bytes belong together", fix=f"write {at - 1}")
        return at

    @model_validator(mode="after")
    def _text_has_no_scale(self) -> "ToyTag":
        if self.type == "string" and self.scale is not None:
            raise Problem("E303", "a text has no scale", at=("scale",))
        return self


class ToyDevice(DeviceOptions):
    protocol: ClassVar[str] = "toy"

    driver: Literal["toy"] = "toy"
    url: str
    key: File | None = None
    extra: Extra | Literal["none"] = Extra()
    limit: int | Duration | None = None
    tags: Mapping[Name, ToyTag]

    @field_validator("url")
    @classmethod
    def _scheme(cls, url: str) -> str:
        if url == "custom":
            raise PydanticCustomError("E310", "not {what}", {"what": url, "why": "just so", "fix": "toy://"})
        if url == "text":
            raise ValueError("E302: told in a text | fix: like this")
        if url == "plain":
            raise ValueError("a plain sentence")
        return url

    @model_validator(mode="after")
    def _whole(self) -> "ToyDevice":
        if self.url == "whole":
            raise PydanticCustomError("E303", "the whole device is wrong", {"at": ("extra", "mode")})
        return self

    def value_type(self, tag: str) -> str:
        kind: str = self.tags[tag].type
        return kind

    def warnings(self) -> Sequence[Warned]:
        return [
            Warned("W304", ("tags", name, "at"), "a large address") for name, tag in self.tags.items() if tag.at > 99
        ]


def check(device: str) -> Sequence[Fault]:
    text = (
        "version: 1\nsite: {enterprise: e, site: s, area: a}\ndevices: {toy: {driver: toy, "
        + device
        + "}}\nmachines: {}\n"
    )
    try:
        return load_source(decoded("x.yaml", text.encode()), Path("/plant"), {"toy": ToyDevice}).warnings
    except ConfigFaults as broken:
        return broken.faults


def said(device: str) -> tuple[str, str, str, str]:
    """Code, text under the caret up to its end, what, fix of the one error."""
    (fault,) = [fault for fault in check(device) if fault.code != "W407"]
    return fault.code, fault.source[fault.caret :].split(",")[0].rstrip("}"), fault.what, fault.fix


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ("url: custom, tags: {}", ("E310", "custom", "not custom", "toy://")),
        ("url: text, tags: {}", ("E302", "text", "told in a text", "like this")),
        ("url: plain, tags: {}", ("E301", "plain", "a plain sentence", "")),
        ("url: whole, extra: {mode: slow}, tags: {}", ("E303", "slow", "the whole device is wrong", "")),
        ("url: x, tags: {a: {at: 3}}", ("E309", "3", "'at' must be even", "write 2")),
        ("url: x, tags: {a: {at: 2, type: string, scale: 2}}", ("E303", "2", "a text has no scale", "")),
        ("url: x, tags: {a: {at: 100}}", ("W304", "100", "a large address", "")),
        ("url: x, tags: {a: {at: 2, value: [1]}}",
         ("E307", "value: [1]", "'value' needs true or false or a whole number or a number or text", "")),
        ("url: x, extra: nine, tags: {}",
         ("E301", "nine", "'nine' is not allowed for 'extra'", "did you mean 'none'?")),
        ("url: x, extra: {mode: fats}, tags: {}",
         ("E301", "fats", "'fats' is not allowed for 'mode'", "did you mean 'fast'?")),
        ("url: x, extra: {after: 5}, tags: {}",
         ("E308", "5", "a duration needs a unit: 250ms, 2s, 5min, 72h or 14d", "did you mean 5s or 5ms?")),
        ("url: x, extra: {wait: 5s}, tags: {}", ("E301", "wait: 5s", "'wait' is not a setting here", "")),
        ("url: x, tags: {a: {}}", ("E306", "a: {", "'at' is missing in 'a'", "write at: …")),
        ("url: x, tags: {a b: {at: 2}}", ("E309", "a b: {at: 2", "'a b' cannot be a name", "write a-b")),
        ("url: x", ("E306", "toy: {driver: toy", "'tags' is missing in 'toy'", "write tags: …")),
        ("url: x, tags: {a: {at: 2, scale: .nan}}", ("E309", ".nan", "'scale' must be an ordinary number", "")),
    ],
)  # fmt: skip
def test_a_drivers_complaint_appears_at_its_place(device: str, expected: tuple[str, str, str, str]) -> None:
    assert said(device) == expected


def test_a_path_of_a_driver_counts_from_the_folder_of_the_file() -> None:
    text = HEAD + "devices: {t: {driver: toy, url: x, key: k.pem, tags: {}}}\n"
    loaded = load_source(decoded("x.yaml", text.encode()), Path("/plant"), {"toy": ToyDevice})
    device = loaded.config.devices["t"]
    assert isinstance(device, ToyDevice)
    assert device.key == "/plant/k.pem"
