"use strict";
// A press as an OPC UA server, on node-opcua. It writes down what its nodes did.
//
// Start:    node server.js TRUTH_LOG PKI_FOLDER PORT [SETTINGS as JSON]; prints {"ready": true} on one line
//           PKI_FOLDER holds press.pem and press.key, and users/trusted/certs the certificates of users. Settings: doubles (Double nodes D0, D1, …), users ({name: password}),
//           anonymous, trustAll, namespaces (registered before the press's own, to move its index), maxSessions,
//           history (every node keeps its values), conditions (an alarm Overload of Ram while |Tonnage| > 100),
//           announce (a host name that it calls itself).
// Commands: one JSON object per line on stdin; each is answered by one line on stdout.
//   {"cmd": "set", "node": "Total", "value": 7, "status": "Bad", "time": ms}     status and time if wanted
//   {"cmd": "count", "node": "Total", "rate": 50}   one up, `rate` times a second; 0 stops. Answers {total}
//   {"cmd": "churn", "every": 100}   every Double node gets a new value each so many ms; 0 stops
//   {"cmd": "quiet"}                 stop counting and churning. Answers {totals}
//   {"cmd": "add", "node": "X", "type": "Double", "value": 1}   {"cmd": "remove", "node": "X"}
//   {"cmd": "namespace", "uri": "urn:x"}   one more namespace
//   {"cmd": "ring", "slots": 16, "tail": true}   Head, Tail, Overflow, and arrays Codes, Stamps, Causes; without a tail
//                                    it writes over what was not read; 0 slots take it away.  {"cmd": "push", "entries": [[code, cause], …]}
//                                    with "most" longer arrays are only told in ranges; with "each" there is a node for each slot too
//   {"cmd": "writes"}                nodes that a client has written, {writes: [[node, value], …]}
//   {"cmd": "limit", "history": 1}   nodes of one HistoryRead, 0 for any number
//   {"cmd": "sessions"}   {"cmd": "restart", "down": ms, "others": namespaces before its own, "without": [nodes]}   {"cmd": "shutdown"}
// Truth log: one JSON object per change: {"at": microseconds UTC, "node", "value", "total"?}
//   "total" is how often a counter has counted since the process started; it never wraps. A removed node is null.
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
// At its load it tries whether Node 20 can do RSA PKCS#1 v1.5, with a key of 4096 bits that costs seconds of a CPU.
const {version} = process;
Object.defineProperty(process, "version", {value: "v18.0.0"});
const {
    DataType, DataValue, MessageSecurityMode, OPCUACertificateManager, OPCUAServer, SecurityPolicy, StatusCodes, Variant,
} = require("node-opcua");
Object.defineProperty(process, "version", {value: version});

const [truthLog, pki, port, settings] = process.argv.slice(2);
const {doubles = 0, users: passwords = {}, anonymous = true, trustAll = true, namespaces = 0, maxSessions = 20, history = false, conditions = false, announce} = JSON.parse(settings || "{}");
const truth = fs.openSync(truthLog, "a");
const nodes = new Map();
const timers = new Map();
const totals = {};
const writes = [];
let ring;
let server;
let namespace;
let folder;

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

function note(node, value, extra) {
    const at = Math.round((performance.timeOrigin + performance.now()) * 1000);
    fs.writeSync(truth, JSON.stringify({at, node, value, ...extra}) + "\n");
}

function add(name, type, value) {
    const variable = namespace.addVariable({
        componentOf: folder, browseName: name, nodeId: `s=${name}`, dataType: DataType[type], minimumSamplingInterval: 10,
    });
    if (history) server.engine.addressSpace.installHistoricalDataNode(variable, {maxOnlineValues: 100000});
    nodes.set(name, {variable, type, value});
    set(name, value);
}

function set(name, value, {status = "Good", time = Date.now(), ...extra} = {}) {
    const node = nodes.get(name);
    node.value = value;
    const array = Array.isArray(value);
    node.variable.setValueFromSource(
        new Variant({dataType: DataType[node.type], arrayType: array ? 1 : 0, value}), StatusCodes[status], new Date(time),
    );
    note(name, value, extra);
}

const limit = (variable, most) => {
    const read = variable.readValue.bind(variable);
    variable.readValue = (...how) => {
        const found = read(...how);
        return found.value.value?.length > most ? new DataValue({statusCode: StatusCodes.BadEncodingLimitsExceeded}) : found;
    };
};

const wrap = {UInt16: 65536, UInt32: 4294967296};
const commands = {
    set: ({node, value, status, time}) => set(node, value, {status, time}),
    count({node, rate}) {
        clearInterval(timers.get(node));
        totals[node] ??= 0;
        if (rate) {
            timers.set(node, setInterval(() => {
                const {type, value} = nodes.get(node);
                totals[node] += 1;
                set(node, (value + 1) % (wrap[type] || Infinity), {total: totals[node]});
            }, 1000 / rate));
        }
        return {total: totals[node]};
    },
    churn({every}) {
        let n = 0;
        clearInterval(timers.get("churn"));
        if (!every) return;
        timers.set("churn", setInterval(() => {
            n += 1;
            const now = new Date();
            for (let i = 0; i < doubles; i++) {
                nodes.get(`D${i}`).variable.setValueFromSource({dataType: DataType.Double, value: n + i / 1e4}, StatusCodes.Good, now);
            }
        }, every));
    },
    quiet() {
        for (const timer of timers.values()) clearInterval(timer);
        timers.clear();
        return {totals};
    },
    ring({slots, tail, most = 0, each = false}) {
        for (const name of [...nodes.keys()]) if (name.startsWith("Slot[")) commands.remove({node: name});
        ring = {slots, tail, each, codes: Array(slots).fill(0), stamps: Array(slots).fill(new Date(0)), causes: Array(slots).fill(0), pushed: 0};
        for (const name of ["Head", "Tail", "Overflow", "Codes", "Stamps", "Causes"]) if (nodes.has(name)) commands.remove({node: name});
        writes.length = 0;
        if (!slots) return;
        for (const name of ["Head", "Tail", "Overflow"]) add(name, "UInt16", 0);
        add("Codes", "UInt16", ring.codes);
        add("Stamps", "DateTime", ring.stamps);
        add("Causes", "UInt16", ring.causes);
        if (most) for (const name of ["Codes", "Stamps", "Causes"]) limit(nodes.get(name).variable, most);
        if (each) for (let i = 0; i < slots; i++) for (const part of ["Code", "Number"]) add(`Slot[${i}].${part}`, "UInt16", 0);
    },
    push({entries}) {
        for (const [code, cause] of entries) {
            const at = Date.now();
            const head = nodes.get("Head").value;
            const next = (head + 1) % ring.slots;
            const lost = ring.tail && next === nodes.get("Tail").variable.readValue().value.value;
            ring.pushed += 1;
            note("Ring", code, {entry: ring.pushed, stamp: at * 1000, lost});
            if (lost) {
                set("Overflow", nodes.get("Overflow").value + 1);
                continue;
            }
            [ring.codes[head], ring.stamps[head], ring.causes[head]] = [code, new Date(at), cause];
            set("Codes", [...ring.codes]);
            set("Stamps", [...ring.stamps]);
            set("Causes", [...ring.causes]);
            if (ring.each) {
                set(`Slot[${head}].Code`, code);
                set(`Slot[${head}].Number`, ring.pushed);
            }
            set("Head", next);
        }
    },
    writes: () => ({writes}),
    limit({history}) {
        server.engine.serverCapabilities.operationLimits.maxNodesPerHistoryReadData = history;
    },
    get: ({node}) => ({value: nodes.get(node).value}),
    add: ({node, type, value}) => add(node, type, value),
    remove({node}) {
        server.engine.addressSpace.deleteNode(nodes.get(node).variable);
        nodes.delete(node);
        note(node, null);
    },
    namespace: ({uri}) => void server.engine.addressSpace.registerNamespace(uri),
    sessions: () => ({
        sessions: server.engine.currentSessionCount,
        subscriptions: server.engine.currentSubscriptionCount,
        timeouts: Object.values(server.engine._sessions).map((session) => session.sessionTimeout),
        channels: server.endpoints[0].currentChannelCount,
    }),
    async restart({down, others = namespaces, without = []}) {
        await stop();
        for (const name of without) nodes.delete(name);
        await new Promise((resolve) => setTimeout(resolve, down || 0));
        await start(others);
        return {at: Date.now()};
    },
    async shutdown() {
        await stop();
        setImmediate(() => process.exit(0));
    },
};

async function stop() {
    commands.quiet();
    await server.shutdown(0);
}

async function start(others = namespaces) {
    const kept = new Map([...nodes].map(([name, node]) => [name, [node.type, node.value]]));
    const manager = new OPCUACertificateManager({rootFolder: pki, automaticallyAcceptUnknownCertificate: trustAll});
    await manager.initialize();
    const users = new OPCUACertificateManager({rootFolder: path.join(pki, "users"), automaticallyAcceptUnknownCertificate: false});
    await users.initialize();
    server = new OPCUAServer({
        port: Number(port),
        hostname: announce || "127.0.0.1",
        host: "127.0.0.1",
        resourcePath: "/",
        serverInfo: {applicationUri: "urn:acme:press-server", productUri: "urn:acme:press"},
        buildInfo: {productName: "press"},
        certificateFile: path.join(pki, "press.pem"),
        privateKeyFile: path.join(pki, "press.key"),
        serverCertificateManager: manager,
        userCertificateManager: users,
        userManager: {isValidUser: (name, password) => name in passwords && passwords[name] === password},
        allowAnonymous: anonymous,
        securityPolicies: [
            SecurityPolicy.None, SecurityPolicy.Basic256Sha256, SecurityPolicy.Aes128_Sha256_RsaOaep, SecurityPolicy.Aes256_Sha256_RsaPss,
            SecurityPolicy.Basic256, SecurityPolicy.Basic128Rsa15,
        ],
        securityModes: [MessageSecurityMode.None, MessageSecurityMode.Sign, MessageSecurityMode.SignAndEncrypt],
        serverCapabilities: {maxSessions},
        disableDiscovery: true,
        nodeset_filename: [],
    });
    await server.initialize();
    const space = server.engine.addressSpace;
    for (let i = 0; i < others; i++) space.registerNamespace(`urn:acme:other-${i}`);
    namespace = space.registerNamespace("urn:acme:press");
    folder = namespace.addFolder(space.rootFolder.objects, {browseName: "Press", nodeId: "s=Press"});
    nodes.clear();
    const wanted = kept.size ? kept : new Map([
        ["Status", ["Int16", 1]], ["FaultCode", ["UInt16", 0]], ["Total", ["UInt16", 0]], ["Rejects", ["UInt16", 0]],
        ["Order", ["String", ""]], ["Tonnage", ["Float", 0]],
        ...Array.from({length: doubles}, (_, i) => [`D${i}`, ["Double", 0]]),
    ]);
    for (const [name, [type, value]] of wanted) add(name, type, value);
    if (conditions) {
        space.installAlarmsAndConditionsService();
        const ram = namespace.addObject({
            organizedBy: space.rootFolder.objects, browseName: "Ram", nodeId: "s=Ram", eventSourceOf: space.rootFolder.objects.server, eventNotifier: 1,
        });
        const tonnage = nodes.get("Tonnage").variable;
        ram.addReference({referenceType: "HasComponent", nodeId: tonnage});
        namespace.instantiateExclusiveLimitAlarm("ExclusiveLimitAlarmType", {
            componentOf: ram, conditionOf: ram, conditionName: "Overload", browseName: "Overload", nodeId: "s=Overload",
            inputNode: tonnage, conditionSource: ram, highHighLimit: 1000, highLimit: 100, lowLimit: -100, lowLowLimit: -1000,
        });
    }
    server.on("request", (request) => {
        if (request.schema.name !== "WriteRequest") return;
        for (const one of request.nodesToWrite) writes.push([one.nodeId.toString(), one.value.value.value]);
    });
    await server.start();
}

start().then(() => {
    say({ready: true});
    const lines = readline.createInterface({input: process.stdin});
    let turn = Promise.resolve();
    lines.on("line", (line) => {
        turn = turn.then(async () => {
            const command = JSON.parse(line);
            try {
                say({ok: true, ...(await commands[command.cmd](command))});
            } catch (error) {
                say({ok: false, error: String(error && error.stack || error)});
            }
        });
    });
    lines.on("close", () => process.exit(0));  // whoever started it is gone
}).catch((error) => {
    process.stderr.write(String(error && error.stack || error) + "\n");
    process.exit(1);
});
