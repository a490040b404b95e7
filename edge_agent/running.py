"""What runs in this process: the agent's version and the configuration of now, which a reload replaces as a whole."""

from dataclasses import dataclass

from config.load import Loaded
from config.model import Config


@dataclass(slots=True)
class Running:
    """Shared by everything that must know the configuration of now; nobody keeps a copy of it."""

    version: str
    loaded: Loaded

    @property
    def config(self) -> Config:
        return self.loaded.config

    @property
    def config_hash(self) -> str:
        return self.loaded.hash
