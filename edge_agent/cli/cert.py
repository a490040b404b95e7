"""`edge-agent cert`: the agent's OPC UA certificate, and which certificates of servers are believed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_agent.cli.command import Section, command
from edge_agent.cli.exits import ExitCode, Stop
from edge_agent.cli.loading import File, load
from edge_agent.cli.ui import Ui

if TYPE_CHECKING:
    from config.load import Loaded

Pki = Annotated[Path | None, typer.Option("--pki", metavar="DIR", help="The folder; default: that of the file.")]
Which = Annotated[
    str, typer.Argument(metavar="CERTIFICATE", help="A file, or the start of a thumbprint in the rejected folder.")
]
DEFAULT = "data/pki"


def register(app: typer.Typer) -> None:
    group = typer.Typer(name="cert", no_args_is_help=True, rich_markup_mode=None, rich_help_panel=Section.KEEP.value)

    @group.callback()
    def about() -> None:
        """The agent's OPC UA certificate, and which servers are believed."""

    @command(group, section=Section.KEEP, examples=["edge-agent cert create", "edge-agent cert create --pki pki"])
    def create(ui: Ui, file: File = None, pki: Pki = None) -> None:
        """Make the agent's certificate and key if there are none, so that servers can trust it beforehand."""
        from drivers.opcua.security import own

        folder = _folder(ui, file, pki)
        there = (folder / "own" / "cert.der").exists()
        try:
            made = own(folder)
        except ValueError as error:
            raise Stop(ExitCode.PROBLEM, str(error)) from None
        told = {"created": not there, **_described(made.certificate, made.file)}
        if ui.json:
            ui.result({"ok": True, **told, "application_uri": made.application_uri})
        else:
            ui.result(f"{made.file} {'was there already' if there else 'is made'}")
            ui.result(f"  application URI {made.application_uri}\n  thumbprint {told['thumbprint']}")
            ui.note("give the file to the server and trust it there")

    @command(group, section=Section.KEEP, examples=["edge-agent cert show", "edge-agent cert show -o json"])
    def show(ui: Ui, file: File = None, pki: Pki = None) -> None:
        """The agent's certificate, and those of servers: trusted, and rejected until somebody trusts them."""
        folder = _folder(ui, file, pki)
        found = {
            kind: [_described(certificate, path) for path, certificate in _certificates(folder / kind)]
            for kind in ("own", "trusted", "rejected")
        }
        if ui.json:
            ui.result({"ok": True, "pki": str(folder), **found})
            return
        for kind, certificates in found.items():
            ui.result(f"{kind}{'' if certificates else ': none'}")
            for one in certificates:
                ui.result(f"  {one['thumbprint']}  {one['subject']}  until {one['not_after'][:10]}  {one['file']}")

    @command(
        group,
        section=Section.KEEP,
        examples=["edge-agent cert trust server.der", "edge-agent cert trust 3F9A"],
    )
    def trust(ui: Ui, which: Which, file: File = None, pki: Pki = None) -> None:
        """Believe a server from now on: its certificate, or that of its CA, goes into the trusted folder.

        Compare the thumbprint with what the server shows before you do.
        """
        folder = _folder(ui, file, pki)
        path, certificate = _chosen(which, folder)
        target = folder / "trusted" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.resolve() != target.resolve():
            target.write_bytes(path.read_bytes())
            if path.parent == folder / "rejected":
                path.unlink()
        told = _described(certificate, target)
        if ui.json:
            ui.result({"ok": True, **told})
        else:
            ui.result(f"trusted: {told['subject']}, thumbprint {told['thumbprint']}, as {target}")
            ui.note("it counts from the next attempt to connect on")

    app.add_typer(group)


def _folder(ui: Ui, file: Path | None, pki: Path | None) -> Path:
    """Where the certificates are. Raises `Stop` if devices have several places and none was named."""
    if pki is not None:
        return pki
    from edge_agent.upkeep.doctor import pki_folders

    loaded: Loaded = load(ui, file)
    folders = pki_folders(loaded) or [loaded.base_dir / DEFAULT]
    if len(folders) > 1:
        raise Stop(ExitCode.USAGE, "devices keep certificates in several folders", hints=[f"--pki {folders[0]}"])
    return folders[0]


def _certificates(folder: Path) -> list[tuple[Path, Any]]:
    from contextlib import suppress

    found = []
    for path in sorted(folder.glob("*")):
        if path.is_file() and path.name != "key.pem":
            with suppress(ValueError):
                found.append((path, _read(path)))
    return found


def _read(path: Path) -> Any:
    """Raises ValueError if it is no certificate, and OSError."""
    from cryptography import x509

    data = path.read_bytes()
    return (x509.load_pem_x509_certificate if b"-----BEGIN" in data else x509.load_der_x509_certificate)(data)


def _chosen(which: str, folder: Path) -> tuple[Path, Any]:
    from drivers.opcua.security import thumbprint

    path = Path(which)
    if path.is_file():
        try:
            return path, _read(path)
        except ValueError:
            raise Stop(ExitCode.USAGE, f"{path} is no certificate", hints=["PEM or DER"]) from None
    wanted = which.replace(":", "").replace(" ", "").upper()
    known = _certificates(folder / "rejected")
    found = [(path, each) for path, each in known if thumbprint(each).startswith(wanted)]
    if len(found) == 1:
        return found[0]
    hints = [f"{thumbprint(each)}  {path.name}" for path, each in known] or [f"{folder / 'rejected'} is empty"]
    several = (
        "several rejected certificates begin" if found else "there is no file and no rejected certificate that begins"
    )
    raise Stop(ExitCode.USAGE, f"{several} with {which!r}", hints=hints)


def _described(certificate: Any, file: Path) -> dict[str, Any]:
    from drivers.opcua.security import thumbprint

    return {
        "file": str(file),
        "subject": certificate.subject.rfc4514_string(),
        "thumbprint": thumbprint(certificate),
        "not_before": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
    }
