from pathlib import Path

import pytest

from config.load import load
from config.model import DeviceOptions, TagOptions
from drivers.registry import Drivers

FOLDER = Path(__file__).parent.parent.parent / "drivers"


@pytest.mark.parametrize("example", sorted(FOLDER.glob("*/example.yaml")), ids=lambda path: path.parent.name)
def test_the_example_of_a_driver_is_a_valid_configuration(example):
    loaded = load(example, Drivers().options())
    assert loaded.warnings == ()
    assert example.parent.name in {device.driver for device in loaded.config.devices.values()}


@pytest.mark.parametrize("readme", sorted(FOLDER.glob("*/README.md")), ids=lambda path: path.parent.name)
def test_every_option_of_its_own_is_in_the_readme_of_a_driver(readme):
    device = Drivers().options()[readme.parent.name]
    tag = device.model_fields["tags"].annotation.__args__[1]
    text = readme.read_text()
    own = (set(device.model_fields) - set(DeviceOptions.model_fields)) | (
        set(tag.model_fields) - set(TagOptions.model_fields)
    )
    assert {name for name in own if f"`{name}`" not in text and f"`{name}:" not in text} == set()
