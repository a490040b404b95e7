// A Modbus TCP server on modbus-serial that behaves like a machine and writes down what it did.
//
// Start:    node server.js TRUTH_LOG [PORT]     then prints {"port": N} on one line
// Commands: one JSON object per line on stdin; each is answered by one line on stdout.
//   {"set": {"holding": {"10": 2}, "input": {}, "coil": {}, "discrete": {}}}
//   {"count": {"table": "holding", "address": 20, "rate": 50, "wrap": 65536, "words": 1}}   rate 0 stops
//   {"refuse": {"table": "holding", "from": 30, "to": 31, "code": 2}}     code 0 allows again
//   {"delay": {"unit": 9, "ms": 3000}}           every answer of the unit; 0 is at once, -1 is never
//   {"read": {"table": "holding", "address": 20}}
//   {"only": 1}                                  so many connections at a time, others are dropped; 0 for any number
//   {"quiet": true}                              stop every counter
//   {"ring": {"at": 1000, "slots": 16, "size": 6, "tail": true}}
//        a ring of slots from `at` + 10 on: code, ms since 1970 (four words, high first), value; head at `at`, tail at
//        `at` + 1, entries without room at `at` + 2. Without "tail" it writes over what was not read.
//   {"push": [{"code": 1, "value": 5}, …]}       entries at once
//   {"writes": true}                             every write that was asked for: {"table", "address", "value"}
// Truth log: one JSON object per change: {"at": microseconds UTC, "table", "address", "value", "total"?}
//   "total" is how often a counter has counted since it was first started; it never wraps.
//   {"stats": true}                              requests served; a read of n bits counts as n
"use strict";
const fs = require("fs");
const readline = require("readline");
const {ServerTCP} = require("modbus-serial");

const truth = fs.openSync(process.argv[2], "a");
const port = process.argv[3] || "0"; // text: modbus-serial takes the number 0 for "not given"
const SIZE = 65536;
const tables = {
  holding: new Uint16Array(SIZE),
  input: new Uint16Array(SIZE),
  coil: new Uint8Array(SIZE),
  discrete: new Uint8Array(SIZE),
};
const refused = new Map(); // "table/address" -> exception code
const delays = new Map(); // unit -> ms
const counters = new Map(); // "table/address" -> {total, timer}
let requests = 0;
let connections = 0;
let dropped = 0;
const writes = [];
let ring = null; // {at, slots, size, tail, pushed}

function now() {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

function note(table, address, value, extra) {
  fs.writeSync(truth, JSON.stringify({at: now(), table, address, value, ...extra}) + "\n");
}

function set(table, address, value) {
  tables[table][address] = value;
  note(table, address, value);
}

// A slow unit calls back late, a silent one never; a refusal is modbus-serial's own modbusErrorCode.
function answer(table, address, length, unit, callback, pick) {
  requests += 1;
  for (let at = address; at < address + length; at += 1) {
    const code = refused.get(`${table}/${at}`);
    if (code) {
      callback(Object.assign(new Error("refused"), {modbusErrorCode: code}));
      return;
    }
  }
  const delay = delays.get(unit) || 0;
  const reply = () => callback(null, pick(tables[table].subarray(address, address + length)));
  if (delay > 0) setTimeout(reply, delay);
  else if (delay === 0) reply();
}

const many = (table) => (address, length, unit, callback) =>
  answer(table, address, length, unit, callback, (values) => Array.from(values));
const one = (table) => (address, unit, callback) =>
  answer(table, address, 1, unit, callback, (values) => values[0]);

const vector = {
  getMultipleHoldingRegisters: many("holding"),
  getMultipleInputRegisters: many("input"),
  getHoldingRegister: one("holding"),
  getInputRegister: one("input"),
  getCoil: one("coil"), // modbus-serial asks bit by bit
  getDiscreteInput: one("discrete"),
  readDeviceIdentification: () => ({0: "Acme", 1: "OV-200", 2: "V1.4", 5: "Oven 200"}),
  setRegister: (address, value, unit, callback) => {
    writes.push({table: "holding", address, value});
    tables.holding[address] = value;
    callback(null);
  },
  setCoil: (address, value, unit, callback) => {
    writes.push({table: "coil", address, value});
    callback(null);
  },
};

// As a PLC does it: the slot first, then the head.
function push({code, value = 0}) {
  const words = tables.holding;
  const head = words[ring.at];
  const next = (head + 1) % ring.slots;
  const at = Date.now();
  ring.pushed += 1;
  const lost = ring.tail && next === words[ring.at + 1];
  fs.writeSync(truth, JSON.stringify({at: at * 1000, entry: ring.pushed, code, value, lost}) + "\n");
  if (lost) {
    words[ring.at + 2] += 1;
    return;
  }
  const slot = ring.at + 10 + head * ring.size;
  words[slot] = code;
  for (let word = 0; word < 4; word += 1) {
    words[slot + 1 + word] = Math.floor(at / 2 ** (16 * (3 - word))) % SIZE;
  }
  words[slot + 5] = value;
  words[ring.at] = next;
}

function count({table, address, rate, wrap = SIZE, words = 1}) {
  const key = `${table}/${address}`;
  const counter = counters.get(key) || {total: 0, timer: null};
  counters.set(key, counter);
  clearInterval(counter.timer);
  counter.timer = null;
  if (rate > 0) {
    const startedAt = performance.now();
    let done = 0;
    counter.timer = setInterval(() => {
      const due = Math.floor((performance.now() - startedAt) * rate / 1000);
      for (; done < due; done += 1) {
        step(counter, table, address, wrap, words);
      }
    }, Math.max(1, Math.min(20, 500 / rate)));
  }
  return counter.total;
}

// Two words are one 32 bit number, high word first; both are written before anything can be answered.
function step(counter, table, address, wrap, words) {
  const old = words === 2 ? tables[table][address] * SIZE + tables[table][address + 1] : tables[table][address];
  const value = (old + 1) % wrap;
  counter.total += 1;
  if (words === 2) {
    tables[table][address] = Math.floor(value / SIZE);
    tables[table][address + 1] = value % SIZE;
  } else {
    tables[table][address] = value;
  }
  note(table, address, value, {total: counter.total});
}

function obey(command) {
  if (command.set) {
    for (const [table, values] of Object.entries(command.set)) {
      for (const [address, value] of Object.entries(values)) {
        set(table, Number(address), value);
      }
    }
    return {ok: true};
  }
  if (command.count) {
    return {total: count(command.count)};
  }
  if (command.refuse) {
    const {table, from, to, code} = command.refuse;
    for (let at = from; at <= to; at += 1) {
      if (code) refused.set(`${table}/${at}`, code);
      else refused.delete(`${table}/${at}`);
    }
    return {ok: true};
  }
  if (command.delay) {
    delays.set(command.delay.unit, command.delay.ms);
    return {ok: true};
  }
  if (command.read) {
    return {value: tables[command.read.table][command.read.address]};
  }
  if (command.quiet) {
    for (const counter of counters.values()) {
      clearInterval(counter.timer);
      counter.timer = null;
    }
    return {totals: Object.fromEntries([...counters].map(([key, counter]) => [key, counter.total]))};
  }
  if ("only" in command) {
    server._server.maxConnections = command.only || undefined;
    return {ok: true};
  }
  if (command.ring) {
    ring = {pushed: 0, ...command.ring};
    return {ok: true};
  }
  if (command.push) {
    command.push.forEach(push);
    return {pushed: ring.pushed};
  }
  if (command.writes) {
    return {writes};
  }
  if (command.stats) {
    return {requests, connections, dropped};
  }
  return {error: "unknown command"};
}

const server = new ServerTCP(vector, {host: "127.0.0.1", port, unitID: 255});
server.on("initialized", () => {
  server._server.on("connection", () => { connections += 1; });
  server._server.on("drop", () => { dropped += 1; });
  console.log(JSON.stringify({port: server._server.address().port}));
});
server.on("serverError", (error) => {
  console.log(JSON.stringify({error: String(error)}));
});
server.on("socketError", () => {}); // clients come and go
readline.createInterface({input: process.stdin})
  .on("line", (line) => console.log(JSON.stringify(obey(JSON.parse(line)))))
  .on("close", () => process.exit(0)); // no peer outlives its test
