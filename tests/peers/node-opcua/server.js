"use strict";
// A press as an OPC UA server, by node-opcua. Driven by JSON lines on stdin, answers them on stdout, and writes what
// its nodes really did to the truth log (TRUTH, JSON lines: {t, node, value}; t in µs of UTC).
// Environment: PORT, PKI (folder of its certificate), TRUTH, DOUBLES (number of Double nodes), USERS (name:password,…),
// NAMESPACES (namespaces before the press's own, to move its index), MAX_SESSIONS.
const fs = require("node:fs");
const path = require("node:path");
const readline = require("node:readline");
const {
    DataType, DataValue, MessageSecurityMode, OPCUACertificateManager, OPCUAServer, SecurityPolicy, StatusCodes, Variant,
} = require("node-opcua");

const env = process.env;
const port = Number(env.PORT);
const truth = env.TRUTH ? fs.openSync(env.TRUTH, "a") : null;
const users = new Map((env.USERS || "").split(",").filter(Boolean).map((pair) => pair.split(":")));
const nodes = new Map();
const timers = new Map();
let server;
let namespace;
let folder;

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

function log(node, value) {
    if (truth !== null) {
        fs.writeSync(truth, JSON.stringify({t: Math.round((performance.timeOrigin + performance.now()) * 1000), node, value}) + "\n");
    }
}

function add(name, type, value) {
    const variable = namespace.addVariable({
        componentOf: folder, browseName: name, nodeId: `s=${name}`, dataType: DataType[type], minimumSamplingInterval: 10,
    });
    nodes.set(name, {variable, type, value});
    set(name, value);
}

function set(name, value, status = "Good", time = new Date()) {
    const node = nodes.get(name);
    node.value = value;
    const array = Array.isArray(value);
    node.variable.setValueFromSource(
        new Variant({dataType: DataType[node.type], arrayType: array ? 1 : 0, value}), StatusCodes[status], time,
    );
    log(name, value);
}

const wrap = {UInt16: 65536, UInt32: 4294967296};
const commands = {
    set: ({node, value, status, time}) => set(node, value, status, time === undefined ? undefined : new Date(time)),
    // Raise counters by one, `rate` times a second, until {cmd: "stop"}.
    count({node, rate}) {
        clearInterval(timers.get(node));
        timers.set(node, setInterval(() => {
            const {type, value} = nodes.get(node);
            set(node, (value + 1) % (wrap[type] || Infinity));
        }, 1000 / rate));
    },
    // Every Double node gets a new value, every `every` ms.
    churn({every}) {
        let n = 0;
        clearInterval(timers.get("churn"));
        timers.set("churn", setInterval(() => {
            n += 1;
            const now = new Date();
            for (let i = 0; i < Number(env.DOUBLES || 0); i++) {
                nodes.get(`D${i}`).variable.setValueFromSource({dataType: DataType.Double, value: n + i / 1e4}, StatusCodes.Good, now);
            }
        }, every));
    },
    stop() {
        for (const timer of timers.values()) clearInterval(timer);
        timers.clear();
    },
    get: ({node}) => ({value: nodes.get(node).value}),
    add: ({node, type, value}) => add(node, type, value),
    remove({node}) {
        server.engine.addressSpace.deleteNode(nodes.get(node).variable);
        nodes.delete(node);
        log(node, null);
    },
    sessions: () => ({sessions: server.engine.currentSessionCount, subscriptions: server.engine.currentSubscriptionCount}),
    async restart({down}) {
        await stop();
        await new Promise((resolve) => setTimeout(resolve, down || 0));
        await start();
    },
    async shutdown() {
        await stop();
        setImmediate(() => process.exit(0));
    },
};

async function stop() {
    commands.stop();
    await server.shutdown(0);
}

async function start() {
    const kept = new Map([...nodes].map(([name, node]) => [name, [node.type, node.value]]));
    const manager = new OPCUACertificateManager({rootFolder: env.PKI, automaticallyAcceptUnknownCertificate: env.TRUST_ALL !== "0"});
    await manager.initialize();
    server = new OPCUAServer({
        port,
        hostname: "127.0.0.1",
        resourcePath: "/",
        serverInfo: {applicationUri: "urn:acme:press-server", productUri: "urn:acme:press"},
        buildInfo: {productName: "press"},
        certificateFile: path.join(env.PKI, "press.pem"),
        privateKeyFile: path.join(env.PKI, "press.key"),
        serverCertificateManager: manager,
        userManager: {isValidUser: (name, password) => users.get(name) === password},
        allowAnonymous: users.size === 0,
        securityPolicies: [SecurityPolicy.None, SecurityPolicy.Basic256Sha256],
        securityModes: [MessageSecurityMode.None, MessageSecurityMode.SignAndEncrypt],
        serverCapabilities: {maxSessions: Number(env.MAX_SESSIONS || 20)},
        disableDiscovery: true,
        nodeset_filename: [],
    });
    await server.initialize();
    const space = server.engine.addressSpace;
    for (let i = 0; i < Number(env.NAMESPACES || 0); i++) space.registerNamespace(`urn:acme:other-${i}`);
    namespace = space.registerNamespace("urn:acme:press");
    folder = namespace.addFolder(space.rootFolder.objects, {browseName: "Press", nodeId: "s=Press"});
    nodes.clear();
    const wanted = kept.size ? kept : new Map([
        ["Status", ["Int16", 1]], ["FaultCode", ["UInt16", 0]], ["Total", ["UInt16", 0]], ["Rejects", ["UInt16", 0]],
        ["Order", ["String", ""]], ["Tonnage", ["Float", 0]],
        ...Array.from({length: Number(env.DOUBLES || 0)}, (_, i) => [`D${i}`, ["Double", 0]]),
    ]);
    for (const [name, [type, value]] of wanted) add(name, type, value);
    await server.start();
}

start().then(() => {
    say({ready: true, port});
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
