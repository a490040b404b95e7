// A Modbus TCP server on modbus-serial whose holding registers all change every PERIOD ms.
// node registers.js PERIOD PORT   prints {"port": N}; every line on stdin is answered by {"requests": served so far}.
"use strict";
const readline = require("readline");
const {ServerTCP} = require("modbus-serial");

const [period, port] = [Number(process.argv[2]), Number(process.argv[3])];
let requests = 0;

const value = (address) => (Math.floor(Date.now() / period) * 7 + address) & 0xffff;

const server = new ServerTCP(
  {
    getMultipleHoldingRegisters: (address, length, unit) => {
      requests += 1;
      return Array.from({length}, (_, i) => value(address + i));
    },
    getHoldingRegister: (address, unit) => {
      requests += 1;
      return value(address);
    },
  },
  {host: "127.0.0.1", port, unitID: 255},
);
server.on("initialized", () => {
  console.log(JSON.stringify({port: port}));
});
readline.createInterface({input: process.stdin}).on("line", () => {
  console.log(JSON.stringify({requests}));
});
