"""What a driver may raise, named for what the collector does about it. One `translate` per library makes them."""


class DriverError(Exception):
    """The device cannot be used now; the collector waits and tries again.

    `code` is the fault's code in the catalogue (C501 …), `reason` one of
    `timeout refused auth session_lost bad_quality exception` (event model §2.11), `native` the library's own
    text for the log and `-v`. `str(error)` says what, where and what to try.
    """

    def __init__(self, message: str, *, code: str, reason: str, native: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.native = native

    @property
    def silent(self) -> bool:
        """The device is not there or not ready: it costs nothing to ask it again soon. Not so one that refuses us,
        one whose answers make no sense, or a driver that fails."""
        return self.reason != "auth" and self.code not in ("C509", "C599")


class ConnectionLost(DriverError):
    """The connection is gone or can no longer be trusted: close, wait, open a new one."""
