"""`edge-agent validate`: is the configuration right? Files only, no network."""

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, find, read, report
from edge_agent.cli.ui import Ui


def register(app: typer.Typer) -> None:
    @command(app, section=Section.CHECK, examples=["edge-agent validate", "edge-agent validate line3.yaml -o json"])
    def validate(ui: Ui, file: File = None) -> None:
        """Check a configuration without the plant: every fault with its place and its mend."""
        from config.errors import ConfigFaults

        path = find(ui, file)
        try:
            loaded = read(path)
        except ConfigFaults as broken:
            report(ui, path, broken.faults)
            raise Stop(ExitCode.BAD_CONFIG) from None
        config = loaded.config
        counts = {
            "devices": len(config.devices),
            "machines": len(config.machines),
            "tags": sum(len(device.tags) for device in config.devices.values()),
            "tests": len(config.tests),
        }
        if ui.json:
            faults = [fault.as_json() for fault in loaded.warnings]
            ui.result({"file": str(path), "ok": True, "faults": faults, "hash": loaded.hash, **counts})
            return
        for warning in loaded.warnings:
            ui.fault(warning.render())
        said = ", ".join(f"{n} {word if n != 1 else word[:-1]}" for word, n in counts.items() if n or word != "tests")
        ui.result(f"{path}: {ui.paint('OK', 'green')}, {said}")
