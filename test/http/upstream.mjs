// A small service to be protected: answers with the headers that it was sent and
// the number of requests that have reached it.
//
// upstream.mjs [GATEWAY]
//     with the URL of a gateway it protects itself, by gateway/protect.mjs
//
// Prints "listening on PORT", and ends on SIGTERM.

import http from 'node:http';

import { protect } from '../../gateway/protect.mjs';

let requests = 0;

function listener(request, response, org) {
  requests++;
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ requests, headers: request.headers, org }));
}

const [gateway] = process.argv.slice(2);
const server = http.createServer(gateway === undefined ? listener : protect(gateway, listener));

process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`listening on ${server.address().port}\n`);
});
