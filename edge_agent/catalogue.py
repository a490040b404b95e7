"""Every code that the program says, with its page, for `explain CODE` and the reference in the documents.

Faults of files are in `config.catalogue`; those of connections (C), the broker (B) and the buffer (S) are here, for
nothing below this package needs their texts.
"""

from collections.abc import Mapping

from config.catalogue import PAGES, Page


def pages() -> Mapping[str, Page]:
    """All of them, by code."""
    return dict(sorted((PAGES | RUNNING).items()))


def page(code: str) -> Page | None:
    return PAGES.get(code) or RUNNING.get(code)


RUNNING: dict[str, Page] = {
    "B601": Page(
        "The broker refused the login",
        "The broker knows neither this user name nor its password, or does not allow this client id. Compare "
        "mqtt.username and the place of mqtt.password with what the broker's administrator gave out. Events are "
        "stored meanwhile and sent when the login works.",
    ),
    "B602": Page(
        "The broker's certificate is not believed",
        "The certificate was signed by another CA than mqtt.ca_file, is not valid today, or names another host "
        "than mqtt.url. Ask for the CA of the broker, and compare the clock of this PC.",
    ),
    "B603": Page(
        "The broker does not allow a topic",
        "The login works, but the broker's access list forbids to publish on the topic named. The agent needs "
        "<topic_root>/# of its site. Nothing is sent past the refused message, so that the order holds; it is "
        "tried again every minute.",
    ),
    "B604": Page(
        "Two clients use one client id",
        "Each connection of one throws the other off. Give each agent an agent.id, or an mqtt.client_id, of its "
        "own; a PC that was cloned has both of its original.",
    ),
    "B605": Page(
        "The broker cannot be reached",
        "Nothing listens at mqtt.url, the network in between is down, or the connection broke. Events are stored "
        "and sent when it is back. Compare host and port, and ask whether a firewall lets port 1883 or 8883 "
        "through.",
    ),
    "B606": Page(
        "The broker refuses a message for ever",
        "A message is too large for the broker, or not to its liking in a way that trying again cannot mend. It "
        "is in the dead letters, declared by a data.loss event, and the others go on.",
    ),
    "B607": Page(
        "The broker does not speak this version of MQTT",
        "Write mqtt.protocol: 3.1.1 for an old broker.",
    ),
    "B699": Page(
        "Sending failed in a way it should not",
        "A fault of the program. Events are stored; sending is tried again. Please report it with edge-agent "
        "support.",
    ),
    "C501": Page(
        "Nothing listens at the device's address",
        "The device answered that no program listens on the port, or the way to it is closed. Is the server "
        "switched on in the PLC (Modbus server, OPC UA server), is it the right port (502, 4840), and does a "
        "firewall forbid it?",
    ),
    "C502": Page(
        "The device does not answer in time",
        "Nothing came back within the device's timeout: it is switched off, unplugged, busy, or at another "
        "address. Try ping from this PC; make timeout longer for a slow device.",
    ),
    "C503": Page(
        "The name of the device cannot be resolved",
        "The name in url is not known to this PC. Write the IP address. An OPC UA server that announces a name "
        "nobody can resolve is reached at the address that is written.",
    ),
    "C504": Page(
        "The OPC UA server does not offer this security",
        "The server has no endpoint with the policy and mode of the configuration. Switch one on at the server, "
        "or write what it offers; edge-agent discover lists it.",
    ),
    "C505": Page(
        "The OPC UA server has no session left",
        "Small PLCs allow few sessions. Close other clients, and wait: sessions of clients that died end by "
        "themselves after some minutes.",
    ),
    "C509": Page(
        "The OPC UA server refused the connection",
        "The server gave a reason that has no page of its own; it stands in the message, and under -v in its own "
        "words.",
    ),
    "C511": Page(
        "A certificate has the wrong name or form",
        "The certificate of the agent or of the server does not name its application or is not valid. The message "
        "says which one. edge-agent cert show prints the agent's.",
    ),
    "C512": Page(
        "A certificate is not trusted",
        "Either the server does not trust the agent yet: move the agent's certificate from rejected to trusted at "
        "the server. Or the agent does not trust the server's: compare its thumbprint and run edge-agent cert "
        "trust.",
    ),
    "C513": Page(
        "The device refused the login",
        "The server knows neither this user nor its password, or allows no anonymous access. See identity of the "
        "device.",
    ),
    "C522": Page(
        "The namespace moved",
        "The namespace URI of the node is not in the server's list (any more). A PLC program was downloaded, or "
        "the URI is misspelt. The agent looks again at each connection.",
    ),
    "C531": Page(
        "The Modbus unit does not answer",
        "The connection works but this unit gives no answer: a wrong unit number, or the device behind the "
        "gateway is off. Units 0, 1 and 255 are worth a try for a device without a gateway.",
    ),
    "C599": Page(
        "The driver failed in a way it should not",
        "A fault of the program or of a driver of another package. The device is connected anew; others are not "
        "concerned. Please report it with edge-agent support.",
    ),
    "S701": Page(
        "Another program has the buffer open",
        "One agent runs with this buffer already, or a tool has the file open. One configuration is run once: "
        "edge-agent status says whether it runs. Give a second agent a buffer.path and an agent.id of its own.",
    ),
    "S702": Page(
        "There is no room for events",
        "The disk, or buffer.max_size, is full. What was dropped is declared by data.loss events: from, to, how "
        "many. Make room on the disk, see why the broker does not take the events, or allow more with "
        "buffer.max_size.",
    ),
    "S704": Page(
        "The buffer was written by a newer version",
        "An older program cannot know what a newer one stored, and the file is not touched. Install the newer "
        "version again, or give buffer.path a new file.",
    ),
    "S705": Page(
        "The buffer cannot be opened",
        "The folder cannot be made or the file cannot be written. It belongs to the user that the agent runs as; "
        "see its owner and mode, and whether the disk is mounted read-only.",
    ),
    "S706": Page(
        "The file is not a buffer",
        "buffer.path names the database of another program. Give the buffer a file of its own.",
    ),
    "S707": Page(
        "The buffer was found damaged",
        "A page of the file is not as it was written: a disk that fails, or a file that was copied while in use. "
        "It is moved aside and kept, a new one is begun under a new epoch, and data.loss says so. Look at the "
        "disk.",
    ),
    "S708": Page(
        "The buffer is closed",
        "Something was to be stored after the end of the agent. A fault of the program; please report it with "
        "edge-agent support.",
    ),
}
"""Codes of an agent that runs."""
