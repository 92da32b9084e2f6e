// A web app of Node alone: it greets, tells which release it is, and ends its answers before it ends itself.
"use strict";

const http = require("node:http");

const RELEASE = process.env.GREENROOM_RELEASE || "local";
const GREETING = "Hello";

const server = http.createServer((request, response) => {
  const text = request.url === "/healthz" ? "fit" : `${GREETING} from Node`;
  request.resume();
  request.on("end", () => {
    response.writeHead(200, { "Content-Type": "text/plain", "X-Release": RELEASE });
    response.end(`${text}\n`);
  });
});

server.keepAliveTimeout = 75_000; // longer than nginx keeps a connection, or requests meet one that is just closed
server.listen(3000);
process.on("SIGTERM", () => server.close(() => process.exit()));
