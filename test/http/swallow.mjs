// A proxy that dies at the wrong moment: it passes on each question to an HTTP server, and
// when it has the answer, closes the client's connection without giving it.
//
// swallow.mjs URL
//
// Prints "listening on PORT", and ends on SIGTERM.

import http from 'node:http';

const { hostname, port } = new URL(process.argv[2]);
const server = http.createServer((request, response) => {
  const { method, url, headers } = request;
  const question = http.request({ hostname, port, method, path: url, headers }, (answer) => {
    answer.resume().on('end', () => request.socket.destroy());
  });

  request.pipe(question);
  question.on('error', () => response.destroy());
});

process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`listening on ${server.address().port}\n`);
});
