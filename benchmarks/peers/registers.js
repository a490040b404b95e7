// A Modbus TCP server on modbus-serial whose holding registers all change every PERIOD ms.
// node registers.js PERIOD   prints {"port": N}; every line on stdin is answered by {"requests": served so far}.
"use strict";
const readline = require("readline");
const {ServerTCP} = require("modbus-serial");

const period = Number(process.argv[2]);
let requests = 0;

const server = new ServerTCP(
  {
    getMultipleHoldingRegisters: (address, length) => {
      requests += 1;
      const tick = Math.floor(Date.now() / period);
      return Array.from({length}, (_, i) => (tick * 7 + address + i) & 0xffff);
    },
  },
  {host: "127.0.0.1", port: 0, unitID: 255},
);
server.on("initialized", () => {
  console.log(JSON.stringify({port: server._server.address().port}));
});
readline.createInterface({input: process.stdin}).on("line", () => {
  console.log(JSON.stringify({requests}));
});
