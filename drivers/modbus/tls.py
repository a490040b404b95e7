"""Modbus/TCP Security: whom we trust at the other end of a TLS connection, and who we are."""

import ssl
from typing import NamedTuple


class Tls(NamedTuple):
    """Files as in YAML. Without a CA the system's are trusted; `insecure` accepts any certificate."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """Read anew for each connection, so that renewed files are used. Raises OSError."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
