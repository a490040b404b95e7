"""What asyncua and the network raise, as a `DriverError` that names device, address and what to try."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from asyncua.crypto.uacrypto import InvalidSignature as BadSignature  # type: ignore[attr-defined]  # not re-exported
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from drivers.errors import ConnectionLost, DriverError
from drivers.looking import NoSuchPath
from drivers.opcua.binary import Malformed
from drivers.opcua.values import status_name

_USER = frozenset(
    (
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadIdentityTokenRejected,
        StatusCodes.BadIdentityTokenInvalid,
        StatusCodes.BadUserSignatureInvalid,
    )
)
_UNTRUSTED = frozenset(
    (
        StatusCodes.BadSecurityChecksFailed,
        StatusCodes.BadCertificateUntrusted,
        StatusCodes.BadApplicationSignatureInvalid,
    )
)
_POLICY = frozenset(
    (
        StatusCodes.BadSecurityPolicyRejected,
        StatusCodes.BadSecurityModeRejected,
        StatusCodes.BadSecurityModeInsufficient,
    )
)
_FULL = frozenset(
    (
        StatusCodes.BadTooManySessions,
        StatusCodes.BadTooManySubscriptions,
        StatusCodes.BadMaxConnectionsReached,
        StatusCodes.BadTcpServerTooBusy,
        StatusCodes.BadTcpNotEnoughResources,
        StatusCodes.BadResourceUnavailable,
        StatusCodes.BadOutOfMemory,
    )
)
_SLOW = frozenset((StatusCodes.BadTimeout, StatusCodes.BadRequestTimeout))


class Failures:
    """Words for one device's failures. `certificate` is the file of the agent's own certificate, once known."""

    def __init__(self, device: str, address: str, timeout: int, user: str | None) -> None:
        self._where = address if device == address else f"{device} ({address})"
        self._address = address
        self._limit = f"{timeout / 1e6:g} s"
        self._user = user
        self.certificate = ""

    @contextmanager
    def translated(self, kind: type[DriverError] = DriverError) -> Iterator[None]:
        """Whatever the library raises inside leaves as a `kind`, with the library's error as its cause."""
        try:
            yield
        except (DriverError, NoSuchPath):
            raise
        except Exception as error:  # the boundary to the library: everything becomes one kind of error
            raise self.translate(error, kind) from error

    def translate(self, error: Exception, kind: type[DriverError] = DriverError) -> DriverError:
        code, reason, text = self._words(error)
        return kind(f"Cannot read {self._where}: {text}", code=code, reason=reason, native=_native(error))

    def lost(self, text: str, *, code: str = "C504", native: str = "") -> ConnectionLost:
        """The connection is there but is of no use any more."""
        return ConnectionLost(f"Lost {self._where}: {text}", code=code, reason="session_lost", native=native)

    def refused(self, code: str, text: str, *, native: str = "") -> DriverError:
        """Security says no: what is wrong and where to mend it."""
        return DriverError(f"Cannot read {self._where}: {text}", code=code, reason="auth", native=native)

    def _words(self, error: Exception) -> tuple[str, str, str]:
        """(code, reason, text)"""
        if isinstance(error, UaStatusCodeError):
            return self._status(error.code)
        if isinstance(error, socket.gaierror):
            return "C503", "refused", "the name cannot be resolved. Does the IP address work in its place?"
        if isinstance(error, ConnectionRefusedError):
            return (
                "C501",
                "refused",
                "nothing listens there. Is the OPC UA server of the PLC switched on, and is the port right?",
            )
        if isinstance(error, TimeoutError):
            return (
                "C502",
                "timeout",
                f"no answer within {self._limit}. Is it an OPC UA server, and is it reachable from this PC?",
            )
        if isinstance(error, ConnectionError):
            return "C504", "session_lost", "the server closed the connection."
        if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
            return "C502", "timeout", "there is no way to that address. Is the cable in, is the network right?"
        if isinstance(error, BadSignature):
            return "C511", "auth", "the server could not prove that the certificate it shows is its own."
        if isinstance(error, Malformed):
            return "C509", "exception", f"the server's answer cannot be understood: {error}"
        return "C509", "exception", "the server's answer cannot be understood, or a file cannot be used."

    def _status(self, code: int) -> tuple[str, str, str]:
        name = status_name(code)
        if code in _USER:
            who = f"user {self._user!r}" if self._user else "an anonymous user; set 'identity'"
            return "C513", "auth", f"the server refuses {who} ({name})."
        if code in _UNTRUSTED:
            return (
                "C512",
                "auth",
                f"the server does not trust the agent's certificate {self.certificate} ({name}). "
                "Move it to the trusted certificates in the server's configuration.",
            )
        if name.startswith("BadCertificate"):
            return "C511", "auth", f"the server refuses the agent's certificate {self.certificate} ({name})."
        if code in _POLICY:
            return "C512", "auth", f"the server refuses this security policy or mode ({name})."
        if code in _FULL:
            return (
                "C505",
                "refused",
                f"the server has no free session ({name}). Sessions of a lost connection end after a while; "
                "otherwise fewer clients must connect, or the server must allow more.",
            )
        if code in _SLOW:
            return "C502", "timeout", f"no answer within {self._limit} ({name})."
        return "C504", "session_lost", f"the server ended it with {name}."


def _native(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
