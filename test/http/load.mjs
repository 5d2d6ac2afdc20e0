// Many requests at once, or for as long as something else happens.
//
// load.mjs crowd URL COUNT [BEARER]
//     open COUNT connections, and when all are open, send a request on each
// load.mjs steady URL CLIENTS [BEARER]
//     CLIENTS send requests, one after the other each, until SIGTERM
// load.mjs counted URL CLIENTS BEARER COUNT
//     the same, but COUNT requests in all
//
// Prints a JSON object: how many answers there were of each status, with a plus
// sign if they had a Retry-After and an exclamation mark if the body of an error was
// not the API's own, and "none" for requests without an answer.

import http from 'node:http';
import net from 'node:net';

const [mode, address, size, bearer, total] = process.argv.slice(2);
const url = new URL(address);
const headers = bearer ? { authorization: `Bearer ${bearer}` } : {};
const counts = {};

function count(what) {
  counts[what] = (counts[what] ?? 0) + 1;
}

function open() {
  return new Promise((resolve, reject) => {
    const socket = net.connect(url.port, url.hostname, () => resolve(socket));
    socket.on('error', reject);
  });
}

function exchange(socket) {
  const lines = Object.entries({ host: url.host, ...headers, connection: 'close' })
    .map(([name, value]) => `${name}: ${value}\r\n`).join('');

  return new Promise((resolve) => {
    let text = '';
    socket.removeAllListeners('error').on('error', () => {});
    socket.on('data', (data) => { text += data; });
    socket.on('close', () => {
      count(/^HTTP\/1.1 (\d+)/.exec(text)?.[1] ?? 'none');
      resolve();
    });
    socket.write(`GET ${url.pathname} HTTP/1.1\r\n${lines}\r\n`);
  });
}

async function crowd() {
  const sockets = await Promise.all(Array.from({ length: Number(size) }, open));
  await Promise.all(sockets.map(exchange));
}

async function steady() {
  const agent = new http.Agent({ keepAlive: true });
  let going = true;
  let left = Number(total ?? Infinity);

  process.on('SIGTERM', () => { going = false; });
  const once = () => new Promise((resolve) => {
    http.get(url, { agent, headers }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (data) => { body += data; });
      response.on('end', () => {
        const foreign = response.statusCode >= 300 && !/^{"error":{"code":"\w+","message":/.test(body);
        count(response.statusCode + (response.headers['retry-after'] ? '+' : '') + (foreign ? '!' : ''));
        resolve();
      });
    }).on('error', () => { count('none'); resolve(); });
  });
  await Promise.all(Array.from({ length: Number(size) }, async () => {
    while (going && left-- > 0) {
      await once();
    }
  }));
  agent.destroy();
}

await (mode === 'crowd' ? crowd() : steady());
process.stdout.write(`${JSON.stringify(counts)}\n`);
