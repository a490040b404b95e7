"""What a broker's refusal means to us: the one place where reason codes and library errors become ours.

Faults: B601 login refused, B602 TLS, B603 may not publish, B604 two agents with one client id, B605 the broker
cannot be reached, B606 the broker ended or refused the connection, B607 the broker will never take this message,
B608 commands may not be received.
"""

import socket
import ssl

from edge_agent.delivery.publisher import Forbidden, NotConnected, Poisoned, PublishError, Rejected, Silence

_LOGIN = {0x86, 0x87, 0x8A, 0x8C}
_SET_ASIDE = {
    0x90: "the topic is not accepted",
    0x95: "the message is too large",
    0x99: "the payload is not accepted",
}
_HINTS = {
    0x84: " Try mqtt.protocol: 3.1.1.",
    0x85: " The client id is '{client_id}'; mqtt.client_id changes it.",
    0x90: " Does it allow the topic of the agent's status? mqtt.topic_root changes its beginning.",
    0x9A: " The agent's status and the present states are retained messages: allow them in the broker.",
    0x9B: " The agent sends at QoS 1: allow it in the broker.",
    0x9C: " Write the address of the other one into mqtt.url.",
    0x9D: " Write its new address into mqtt.url.",
}
_NOT_AUTHORISED = 0x87
_TAKEN_OVER = 0x8E
_WORDS = {
    0x00: "normal disconnection",
    0x04: "it disconnected with will",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "it does not speak this MQTT version",
    0x85: "it does not accept the client id",
    0x86: "bad user name or password",
    0x87: "not authorised",
    0x88: "it is unavailable",
    0x89: "it is busy",
    0x8A: "this client is banned",
    0x8B: "it is shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep-alive time-out",
    0x8E: "the session was taken over",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x93: "more messages in flight than it accepts",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "it keeps no retained messages",
    0x9B: "it does not offer QoS 1",
    0x9C: "it wants another server to be used",
    0x9D: "it has moved to another server",
    0x9E: "it offers no shared subscriptions",
    0x9F: "connection rate exceeded",
    0xA0: "longest time of a connection exceeded",
    0xA1: "it offers no subscription identifiers",
    0xA2: "it offers no wildcard subscriptions",
}


def words(code: int) -> str:
    """A reason code as a person would say it, with its number."""
    return f"{_WORDS.get(code, 'unknown reason')} (0x{code:02X})"


def connack_refused(code: int, *, broker: str, user: str | None, client_id: str) -> PublishError:
    """The CONNACK says no. MQTT 3.1.1 return codes come as the MQTT 5 codes that mean the same."""
    native = f"CONNACK {words(code)}"
    if code in _LOGIN:
        who = f"the user '{user}'" if user else "a login without a user name"
        return Forbidden(
            f"The broker {broker} refuses {who}. Check mqtt.username and mqtt.password.", code="B601", native=native
        )
    hint = _HINTS.get(code, "").format(client_id=client_id)
    return NotConnected(
        f"The broker {broker} does not take the connection: {words(code)}.{hint}", code="B606", native=native
    )


def disconnected(code: int, *, broker: str, client_id: str) -> PublishError:
    """A DISCONNECT of the broker (MQTT 5)."""
    native = f"DISCONNECT {words(code)}"
    if code == _TAKEN_OVER:
        return NotConnected(
            f"Another client connected to {broker} with the client id '{client_id}'. Two agents with one id take the "
            "session from each other for ever: give each its own agent.id or mqtt.client_id.",
            code="B604",
            native=native,
        )
    if code == _NOT_AUTHORISED:
        return Forbidden(f"The broker {broker} no longer allows this client.", code="B601", native=native)
    if code in _SET_ASIDE:
        return Poisoned(f"The broker {broker} ended the connection: {_SET_ASIDE[code]}.", code="B606", native=native)
    hint = _HINTS.get(code, "").format(client_id=client_id)
    return NotConnected(f"The broker {broker} ended the connection: {words(code)}.{hint}", code="B606", native=native)


def puback_refused(code: int, *, broker: str, topic: str) -> PublishError:
    """A PUBACK with a failure code (0x80 and above)."""
    native = f"PUBACK {words(code)}"
    if code == _NOT_AUTHORISED:
        return Forbidden(
            f"The broker {broker} does not allow to publish on {topic}. Allow it in the broker's access list.",
            code="B603",
            native=native,
        )
    if code in _SET_ASIDE:
        return Rejected(f"{_SET_ASIDE[code]} (0x{code:02X})", code="B607", native=native)
    return NotConnected(f"The broker {broker} cannot take messages now: {words(code)}.", code="B606", native=native)


def subscription_refused(code: int, *, broker: str) -> PublishError:
    """A SUBACK with a failure code."""
    return Forbidden(
        f"The broker {broker} does not allow to receive commands: {words(code)}. Allow the agent to read …/cmd/# in "
        "the broker's access list, or set mqtt.commands: false.",
        code="B608",
        native=f"SUBACK {words(code)}",
    )


def unreachable(error: Exception, *, broker: str, ca_file: str | None) -> PublishError:
    """Opening the connection, or keeping it, failed in the socket, in TLS or in the library."""
    native = f"{type(error).__name__}: {error}"
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (62, 64):  # host name or address mismatch
            text = f"The certificate of the broker {broker} is for another name: {error.verify_message}."
        else:
            trusted = f"mqtt.ca_file ({ca_file})" if ca_file else "the system's certificates"
            text = (
                f"The certificate of the broker {broker} is not trusted by {trusted}: {error.verify_message}. "
                "Put the authority that signed it into mqtt.ca_file."
            )
        return NotConnected(text, code="B602", native=native)
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or str(error)
        kind = Silence if isinstance(error.__cause__, ConnectionError | TimeoutError) else NotConnected
        return kind(
            f"No TLS connection with the broker {broker}: {reason}. Is this a TLS port, and does the broker want a "
            "client certificate (mqtt.cert_file, mqtt.key_file)?",
            code="B602",
            native=native,
        )
    if isinstance(error, socket.gaierror):
        text = f"The name of the broker {broker} cannot be resolved."
    elif isinstance(error, ConnectionRefusedError):
        text = f"Nothing listens on {broker}. Does the broker run, and is the port right?"
    elif isinstance(error, TimeoutError):
        text = f"No answer from the broker {broker}."
    elif isinstance(error, OSError):
        text = f"The connection to the broker {broker} failed: {error.strerror or error}."
    else:
        return NotConnected(f"The connection to the broker {broker} broke: {error!r}.", code="B606", native=native)
    return Silence(text, code="B605", native=native)


def unusable_files(error: Exception, *, files: str) -> PublishError:
    """A certificate or key of ours cannot be read."""
    return NotConnected(
        f"{files} cannot be used for the connection to the broker: {error}.", code="B602", native=repr(error)
    )
