// A Modbus server on jsmodbus with 200 addresses in every table, over TCP or as RTU over TCP.
//
// Holding register n holds 3n, input register n holds 1000 + n, coil n is n odd, discrete input n is n even.
// Start: node server.js PORT [rtu], prints {"port": N} on one line; ends when its stdin is closed.
"use strict";
const net = require("net");
const modbus = require("jsmodbus");

const SIZE = 200;
const tables = {
  coils: Buffer.alloc(SIZE / 8),
  discrete: Buffer.alloc(SIZE / 8),
  holding: Buffer.alloc(SIZE * 2),
  input: Buffer.alloc(SIZE * 2),
};
for (let n = 0; n < SIZE; n += 1) {
  tables.holding.writeUInt16BE(3 * n, 2 * n);
  tables.input.writeUInt16BE(1000 + n, 2 * n);
  tables[n % 2 ? "coils" : "discrete"][n >> 3] |= 1 << (n & 7);
}

const listener = new net.Server();
if (process.argv[3] === "rtu") {
  listener.on("connection", (socket) => new modbus.server.RTU(socket, tables));
} else {
  new modbus.server.TCP(listener, tables);
}
listener.listen(Number(process.argv[2]), "127.0.0.1", () => console.log(JSON.stringify({port: listener.address().port})));
process.stdin.on("end", () => process.exit(0)).resume(); // no peer outlives its test
