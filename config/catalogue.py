"""Every code of a configuration fault, with its page: what it means, why it is one, what to do.

`explain CODE` prints these without a network. Codes of connections (C), the broker (B) and the store (S) are
not faults of a file and are described where they are raised.
"""

from typing import NamedTuple


class Page(NamedTuple):
    title: str
    text: str


PAGES: dict[str, Page] = {
    "E101": Page(
        "A tab in the indentation",
        "YAML structures a file by the blanks at the start of its lines and knows no tabs there. Set the editor to "
        "write blanks, and replace the tabs by two blanks for each level.",
    ),
    "E102": Page(
        "A key written twice",
        "The same key stands twice in one mapping, so one of the two values would be lost without a word. The "
        "message names the line of the first. Often two machines or tags were copied and not renamed.",
    ),
    "E103": Page(
        "A number that starts with zero",
        "010 is eight for some programs and ten for others. Write 10 for the number; write '010' in quotes where "
        "it is text, such as an article number.",
    ),
    "E104": Page(
        "The file is not YAML at this place",
        "A bracket or a quote is not closed, a ':' is missing or one too many, or a line is indented differently "
        "from its neighbours. Nothing behind this place could be read, so more faults may appear once it is mended.",
    ),
    "E105": Page(
        "A part of YAML that is not used here",
        "Merge keys (<<), tags (!name), several documents (---) and mappings as keys are not used: editors read "
        "them differently. What several machines have in common is written once as a template.",
    ),
    "E106": Page(
        "The file cannot be read",
        "It does not exist, may not be read, or is not UTF-8 text. Editors offer UTF-8 when they save a file.",
    ),
    "E107": Page(
        "The file is too large",
        "A configuration has at most 4 MiB, 40 levels, 1000 aliases and a million values. A file beyond that was "
        "most likely not meant as a configuration.",
    ),
    "E108": Page(
        "The file is no mapping",
        "A configuration starts with keys at the left margin: version, site, devices, machines. An empty file is "
        "none; edge-agent init writes a first one.",
    ),
    "E201": Page(
        "A template that does not exist",
        "The machine names a template that is not written under templates. The names are compared letter by letter.",
    ),
    "E202": Page(
        "A variable that is not set",
        "The template uses ${name} and lists it under its vars, but this machine gives it no value. Add it to the "
        "machine's vars.",
    ),
    "E203": Page(
        "A variable that the template does not have",
        "Either the template uses ${name} without listing the name under its vars, or a machine sets a variable "
        "that its template does not list. Most often it is a spelling mistake.",
    ),
    "E204": Page(
        "A variable that is never used",
        "The template lists a variable that it does not use, so every machine would have to set it for nothing.",
    ),
    "E205": Page(
        "A substitution where there is none",
        "${name} is filled in within templates only, in values, from the machine's vars. Environment variables are "
        "not filled in; secrets have {env: NAME}.",
    ),
    "E206": Page(
        "A list in a spreadsheet that cannot be read",
        "The first row of a CSV names the columns. Of machines: name, the template's variables, and line where lines "
        "differ; a name with a range, press-[01-05], is as many machines, and other ranges of the row must count as "
        "many. Of tags: device, tag, and the settings of tags. "
        "Every row has as many cells as the first one; a cell with the delimiter in it stands in double quotes and a "
        'quote inside of it is written "". Spreadsheets do both when they save as CSV UTF-8.',
    ),
    "E301": Page(
        "A setting or a value that is not allowed",
        "There is no setting of this name here, or its value is none of the allowed ones. Nothing unknown is "
        "ignored: a misspelt setting would silently have no effect.",
    ),
    "E302": Page(
        "Exactly one is needed",
        "Several settings exclude each other and one of them must be there: a Modbus tag has one address (coil, "
        "discrete, holding, input or reference), a secret one place, a measurement one trigger.",
    ),
    "E303": Page(
        "A setting of another driver",
        "The setting exists, but not for this device's driver, or not together with the others beside it.",
    ),
    "E305": Page(
        "A calendar that contradicts itself",
        "Two shifts are on at the same time, or one of a name begins twice on the same day. Every moment belongs to "
        "one shift, and the local date of its start with its name is what events call it: 2026-03-02/A.",
    ),
    "E306": Page(
        "A setting that is missing",
        "This setting has no default and must be written. The place shown is what it is missing in.",
    ),
    "E307": Page(
        "A value of another kind",
        "Text where a number belongs, a single value where a list belongs, or the like. Only true and false are "
        "yes and no; yes, no, on and off are text, as in YAML 1.2. A number that is meant as text needs quotes.",
    ),
    "E308": Page(
        "A unit is missing or unknown",
        "Durations are written 250ms, 2s, 5min, 72h, 14d; sizes 64KiB, 4GiB; rates 2/s, 30/min. A bare number could "
        "mean seconds to one and milliseconds to another.",
    ),
    "E309": Page(
        "Out of range, or not a name",
        "The number, duration or size is smaller or larger than makes sense, or the text cannot be a name: names "
        "become topic levels and consist of letters, digits, - and _.",
    ),
    "E310": Page(
        "An unprotected connection to another computer",
        "mqtt:// is readable and can be forged by everyone on the network. Use mqtts://, or say that it is meant "
        "with insecure: true beside the address. On the agent's own computer mqtt:// is fine.",
    ),
    "E311": Page(
        "Two things of one name",
        "A machine that brings its own device gives the device its name; a shared device may not have that name too.",
    ),
    "E312": Page(
        "A driver that does not exist",
        "The driver is the protocol's name as listed in the message. Drivers of other packages appear when they "
        "are installed beside the agent.",
    ),
    "E313": Page(
        "A secret that cannot be read",
        "The environment variable, file or systemd credential is missing or empty, or others can read the file. "
        "A secret's file has mode 0600 and belongs to the agent's user.",
    ),
    "E401": Page(
        "A tag that does not exist",
        "The machine names a tag that its device does not have. A tag of another device is written device/tag.",
    ),
    "E402": Page(
        "A rule that cannot be read",
        "Expressions know tag names, numbers, texts, and, or, not, comparisons, + - * /, in, and the functions abs, "
        "min, max, age, changed_within, rising, falling, avg. The caret shows the place where reading ended.",
    ),
    "E403": Page(
        "Rules without an end",
        "The last rule has no when: it holds when no other does, so that there is always a state. A rule without "
        "when before the last one would hide those below it.",
    ),
    "E404": Page(
        "The state needs exactly one form",
        "Either from with map (a tag that holds the state as a number or word), or rules (expressions). In a "
        "machine that overrides its template, an empty value such as 'from:' takes the template's away.",
    ),
    "E405": Page(
        "A counter without a tag",
        "A counter group needs at least one register: total, good, scrap or rework.",
    ),
    "E406": Page(
        "A counter that is text",
        "A counter's tag must hold a number; this one is of type string.",
    ),
    "E407": Page(
        "A machine that does not exist",
        "A test or planned maintenance names a machine that is not written under machines.",
    ),
    "E408": Page(
        "A device that does not exist",
        "The machine names a device that is neither under devices nor the own device of a machine.",
    ),
    "E409": Page(
        "One code for two alarms",
        "The code tells the alarms of a machine apart: in events, in the reasons of downtimes and in statistics. Two "
        "alarms of one code could not be told apart there.",
    ),
    "E410": Page(
        "A tag of a kind that does not fit",
        "A limit needs a number, an alarm without limits a bool tag, an alarm word a whole number, a meter a number. "
        "The type stands at the tag.",
    ),
    "E411": Page(
        "A meter without a unit",
        "The consumption is published in the unit of the meter's tag, as a UN/ECE code: KWH, MTQ, KGM, LTR.",
    ),
    "E412": Page(
        "A lamp that is read too seldom",
        "A blinking lamp changes about every half second. Read every 250 ms or faster the changes are seen; read "
        "more seldom the lamp looks steady or dark, at random, and the state would be wrong.",
    ),
    "E413": Page(
        "A bit that is shorter than its scan",
        "A counter counts the edges of a bit. One that comes and goes between two reads leaves no trace, so parts "
        "are lost. The bit must last at least two reads. A count in a register of the PLC loses nothing.",
    ),
    "W110": Page(
        "A secret in plain text",
        "Everyone who can read the file, its backups or the repository knows the secret. Use {credential: NAME} "
        "(systemd), {file: PATH} (mode 0600) or {env: NAME}. It is masked in every output all the same.",
    ),
    "W112": Page(
        "A file that is not there yet",
        "A certificate or key of the broker connection does not exist on this computer. Paths count from the folder "
        "of the configuration file. Fine on a desk; the agent will not reach the broker without it.",
    ),
    "W120": Page(
        "The page is open to the network",
        "http.listen names another address than loopback and there is no token, so every computer that reaches this "
        "one can read the machines' states, their counts and the addresses of the devices. Nothing can be changed "
        "through the page. Give it a token, or listen on 127.0.0.1 and put a proxy with a login in front.",
    ),
    "W206": Page(
        "A template that nobody uses",
        "No machine names this template, so most of it has not been checked.",
    ),
    "W304": Page(
        "A number from a manual",
        "Manuals count registers from 1 and add a digit for the table: 40201 is holding register 200 on the wire. "
        "Write reference: 40201, or holding: 200.",
    ),
    "W305": Page(
        "A namespace index that may move",
        "ns=3 is a position in the server's list of namespaces, and the list can change when a PLC program is "
        "downloaded. nsu=<namespace uri> stays.",
    ),
    "W306": Page(
        "A tail that nobody moves",
        "A PLC that waits for its tail keeps entries until they are confirmed. The agent reads them, and writes the "
        "tail only with write_tail: true; without it the PLC's ring fills up and it says overflow for ever. A PLC "
        "that writes over the oldest entry needs no tail: leave it out.",
    ),
    "W413": Page(
        "A counter that rolls over within the hour",
        "When the connection is lost for longer than that, the register may have rolled over more than once, and the "
        "parts of the gap cannot be told. A wider register, or a 'max_rate' that is closer to what the machine does.",
    ),
    "W414": Page(
        "A count in float32",
        "A 32 bit floating-point number holds whole numbers only up to 16777216; above it one more part changes "
        "nothing. Counts beyond that carry the flag precision.",
    ),
    "W416": Page(
        "Figures of shifts without shifts",
        "The machine is asked for key figures of each shift, but the calendar has no shifts. Nothing will be told "
        "until the MOM sends a calendar. Write the shifts under calendar, or ask for windows of hours or orders.",
    ),
    "W415": Page(
        "A bit that may be shorter than its scan",
        "A counter counts the edges of a bit, which must last at least two reads, or some may be missed. The message "
        "names the numbers. 'max_rate' or 'pulse' say how long the bit really lasts.",
    ),
    "W407": Page(
        "No machine",
        "The file describes no machine, so nothing would be sent. Write one under machines, or list them in "
        "machines_from.",
    ),
}
