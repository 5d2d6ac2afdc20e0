// A small service to be protected: reads the body, and answers with the headers that it
// was sent, in all forms that node has of them, and the number of requests that have
// reached it.
//
// upstream.mjs [GATEWAY [API_KEY_HEADER [ADDRESS_HEADER]]]
//     with the URL of a gateway it protects itself, by gateway/protect.mjs, where keys
//     may come in the header of the one name, and the client's address is in that of the
//     other, which each request must have
//
// Prints "listening on PORT", and ends on SIGTERM.

import http from 'node:http';

import { protect } from '../../gateway/protect.mjs';

let requests = 0;

function listener(request, response, org) {
  requests++;
  request.on('end', () => {
    const { method, url, headers, headersDistinct, rawHeaders, trailers, trailersDistinct, rawTrailers } = request;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({
      requests, method, url, headers, headersDistinct, rawHeaders, trailers, trailersDistinct, rawTrailers, org,
    }));
  }).resume();
}

const [gateway, apiKeyHeader, addressHeader] = process.argv.slice(2);
const options = {
  ...apiKeyHeader && { apiKeyHeader },
  ...addressHeader && { address: async (request) => request.headers[addressHeader].trim() },
};
const server = http.createServer({ maxHeaderSize: 32 * 1024 },
  gateway === undefined ? listener : protect(gateway, listener, options));

process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`listening on ${server.address().port}\n`);
});
