// An OPC UA server on node-opcua with COUNT Double nodes that all change every PERIOD ms.
// node nodes.js COUNT PERIOD FOLDER   prints {"port": N}; its certificates are kept in FOLDER.
"use strict";
const path = require("path");
const opcua = require("node-opcua");

const [count, period] = [Number(process.argv[2]), Number(process.argv[3])];
const folder = process.argv[4];

async function main() {
  const manager = new opcua.OPCUACertificateManager({automaticallyAcceptUnknownCertificate: true, rootFolder: folder});
  await manager.initialize();
  const server = new opcua.OPCUAServer({
    port: 0,
    hostname: "127.0.0.1",
    securityPolicies: [opcua.SecurityPolicy.None],
    securityModes: [opcua.MessageSecurityMode.None],
    serverCertificateManager: manager,
    userCertificateManager: manager,
    serverCapabilities: {maxMonitoredItemsPerCall: 5000},
  });
  await server.initialize();
  const space = server.engine.addressSpace;
  const ns = space.registerNamespace("urn:acme:bench");
  const nodes = Array.from({length: count}, (_, i) =>
    ns.addVariable({
      organizedBy: space.rootFolder.objects,
      nodeId: `s=v${i}`,
      browseName: `v${i}`,
      dataType: "Double",
      minimumSamplingInterval: period,
    }),
  );
  let tick = 0;
  setInterval(() => {
    tick += 1;
    const at = new Date();
    nodes.forEach((node, i) =>
      node.setValueFromSource({dataType: "Double", value: tick + i / 7}, opcua.StatusCodes.Good, at),
    );
  }, period);
  await server.start();
  console.log(JSON.stringify({port: server.endpoints[0].port, folder: path.resolve(folder)}));
}

main();
