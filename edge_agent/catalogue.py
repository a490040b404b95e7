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
        "The broker ended or refused the connection",
        "The broker is busy, shuts down, has moved, or does not accept the client id or this version of MQTT; the "
        "message says which. The agent tries again by itself and everything is kept. For an old broker write "
        "mqtt.protocol: 3.1.1.",
    ),
    "B607": Page(
        "The broker will never take this message",
        "The message is too large for the broker, or its topic or content is not accepted. Trying again cannot "
        "mend that: it is kept in the dead letters, declared by a data.loss event, and the others go on. Raise "
        "the broker's limit for messages.",
    ),
    "B608": Page(
        "The broker does not allow to receive commands",
        "The login works, but the broker's access list forbids to read the topics on which the MOM sends commands. "
        "Allow the agent to read <topic_root>/…/cmd/#, or write mqtt.commands: false where nobody sends any.",
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
        "firewall forbid it? edge-agent discover HOST tells what answers there. Of a serial line: the port is not "
        "there, is used by another program, or may not be opened by the agent's user.",
    ),
    "C502": Page(
        "The device does not answer in time",
        "Nothing came back within the device's timeout: it is switched off, unplugged, busy, or at another "
        "address. Try ping from this PC and edge-agent discover HOST; make timeout longer for a slow device.",
    ),
    "C503": Page(
        "The name of the device cannot be resolved",
        "The name in url is not known to this PC. Write the IP address. An OPC UA server that announces a name "
        "nobody can resolve is reached at the address that is written.",
    ),
    "C504": Page(
        "The OPC UA server ended the connection",
        "The session or the subscription came to its end: the server was restarted, a PLC program was downloaded, "
        "or the network broke. The agent connects anew by itself; if it comes again and again, look at the "
        "server's log.",
    ),
    "C505": Page(
        "The OPC UA server has no session left",
        "Small PLCs allow few sessions. Close other clients, and wait: sessions of clients that died end by "
        "themselves after some minutes.",
    ),
    "C507": Page(
        "The OPC UA server asks for another one",
        "A redundant server says by its ServiceLevel or its state that another one should be asked. The agent "
        "goes on with the server that is in order; the tags' values do not change by that.",
    ),
    "C509": Page(
        "The answer cannot be understood",
        "What answers is no OPC UA server, or speaks it wrongly, or a certificate file cannot be used. The "
        "library's own words stand under -v and in the log.",
    ),
    "C511": Page(
        "A certificate is not believed or of the wrong form",
        "Either the server's certificate is not trusted here: compare its thumbprint with what the server shows "
        "and run edge-agent cert trust. Or the server refuses the form or the names of the agent's certificate: "
        "edge-agent cert show prints it.",
    ),
    "C512": Page(
        "The server does not trust the agent, or offers other security",
        "Move the agent's certificate from rejected to trusted in the server's configuration; edge-agent cert show "
        "says which file it is. Or the server does not offer the policy and mode of the configuration: enable it "
        "there, or write one that edge-agent discover HOST shows.",
    ),
    "C513": Page(
        "The device refused the login",
        "The server knows neither this user nor its password, or allows no anonymous access. See identity of the "
        "device.",
    ),
    "C521": Page(
        "The PLC has no such node",
        "The tag's node is not in the server: a misspelt name, or a program was downloaded in which it is called "
        "something else. Names near to it follow in the tag's reason. The tag is BAD, the others go on, and it is "
        "live within seconds of the node being there. edge-agent browse DEVICE shows what the server has.",
    ),
    "C522": Page(
        "The namespaces moved",
        "A PLC program was downloaded and the server's list of namespaces changed. The nodes are looked up again "
        "by their namespace URI; that is why nodes are written with nsu= and not with ns=.",
    ),
    "C523": Page(
        "The PLC gives no good value of the node",
        "The node is there, but its value is bad or doubtful in the PLC itself, or of another type than the tag "
        "declares. The value is never made up: the tag is BAD with the reason of the server. Compare 'type' with "
        "what edge-agent browse shows; an array needs 'index', a structure 'field'.",
    ),
    "C531": Page(
        "The Modbus unit does not answer",
        "The connection works but this unit gives no answer: a wrong unit number, or the device behind the gateway "
        "is off. edge-agent discover HOST --units 0-32,255 shows which units answer; a device without a gateway "
        "has mostly 0, 1 or 255. If no unit of a serial line answers: baud, parity and stop_bits in url, the two "
        "wires of RS-485 exchanged, or tcp:// where the converter speaks rtu+tcp://.",
    ),
    "C532": Page(
        "The Modbus device has no such register",
        "The device answered with exception 2 or 3. The tag is BAD and the others go on. Manuals count from 1 and "
        "the wire from 0: write the manual's number as reference, or subtract 1. It may be in another table "
        "(holding, input) or another unit, or be readable only as a whole (one_tag_per_request). edge-agent browse "
        "DEVICE holding shows what answers.",
    ),
    "C533": Page(
        "The Modbus device is busy",
        "The device answered with exception 5 or 6: it has no time just now; or with 4, 7 or 8: it failed. The tag "
        "is BAD until it answers, never the last value. If it comes often, read more seldom (scan), wait after each "
        "answer (pause), or send one request at a time (in_flight: 1).",
    ),
    "C534": Page(
        "A float that is hardly a measured value",
        "A number such as 9.18e-41 is mostly two registers in the wrong order. The message says in which word_order "
        "and byte_order it would be a number that people measure; edge-agent read TAG --all-decodings shows every "
        "one. It can also be two integers, or the register beside the right one.",
    ),
    "C540": Page(
        "The running agent does not know this",
        "The file was changed since the agent read it, and the device or tag is not in what runs. It is not looked "
        "at past the agent, for that could need a second connection. Take the file over with edge-agent reload. Or "
        "the agent is still connecting to it: check again in a moment.",
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
        "many. edge-agent buffer stats shows what waits. Make room on the disk, see why the broker does not take "
        "the events, or allow more with buffer.max_size.",
    ),
    "S703": Page(
        "The clock jumped",
        "The clock of this PC was set by more than a second. Durations come from another clock and are right; the "
        "times of events before and after do not fit together, and agent.clock_adjusted says by how much. Order by "
        "sequence, never by time. Give the PC a time server that it can always reach.",
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
    "S709": Page(
        "The buffer is older than what was sent",
        "The broker or the MOM knows events that are not in the buffer: a copy or an image was restored, or the disk "
        "forgot what it had confirmed. Numbers must not be given twice, so the agent goes on by itself under a new "
        "epoch, and data.loss says so for every stream. Two agents with one agent.id look the same: give each its "
        "own.",
    ),
    "S710": Page(
        "The disk of the buffer does not answer",
        "A write or a sync has hung for ten seconds and more: until it answers nothing new is stored or sent, and "
        "devices are not read on. What was stored is safe. Look at the disk, its cable and the kernel's log (dmesg); "
        "on a network file system, at the server. edge-agent status answers from memory meanwhile.",
    ),
}
"""Codes of an agent that runs."""
