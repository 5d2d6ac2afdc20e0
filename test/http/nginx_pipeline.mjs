// nginx_pipeline.mjs PORT PATH KEYS REQUESTS CONNECTIONS: send so many requests, on
// connections that are kept, many at once on each, and print how many answers there were
// of each status.
//
// KEYS is a file as for nginx_load.mjs.

import { readFileSync } from 'node:fs';
import net from 'node:net';

const AT_ONCE = 50;

const [port, path, file, ...numbers] = process.argv.slice(2);
const [requests, connections] = numbers.map(Number);
const texts = JSON.parse(readFileSync(file, 'utf8'))
  .map(({ secret }) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${secret}\r\n\r\n`);
const counts = {};
let next = 0;

function take() {
  let text = '';
  let taken = 0;

  while (taken < AT_ONCE && next < requests) {
    text += texts[next++ % texts.length];
    taken += 1;
  }
  return { text, taken };
}

function goOn() {
  return new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    let waiting = 0;
    let rest = '';

    function send() {
      const { text, taken } = take();

      waiting = taken;
      if (taken === 0) {
        socket.end(resolve);
      } else {
        socket.write(text);
      }
    }

    socket.on('connect', send);
    socket.on('data', (data) => {
      const text = rest + data.toString('latin1');

      for (const [, status] of text.matchAll(/HTTP\/1\.1 (\d\d\d) /g)) {
        counts[status] = (counts[status] ?? 0) + 1;
        waiting -= 1;
      }
      // What may be the beginning of a status line.
      const at = text.lastIndexOf('HTTP/1.1 ');
      rest = text.slice(Math.max(at < 0 ? 0 : at + 13, text.length - 12));
      if (waiting === 0) {
        send();
      }
    });
    socket.on('error', reject);
    socket.on('close', resolve);
  });
}

await Promise.all(Array.from({ length: connections }, goOn));
console.log(Object.entries(counts).map(([status, count]) => `${status} ${count}`).join(', '));
