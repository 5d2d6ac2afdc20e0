// An HTTPS server that publishes signing keys as Google does, and in all the
// ways in which that can go wrong.
//
// server.mjs DIRECTORY
//
// DIRECTORY has keys.json, which is read for each request, and for each of
// the names below a certificate with its key (good.pem, good.key, …).  A line
// for each request is appended to requests.log there.  Once it listens it
// writes ports.json, an object of ports by name, and then runs until it is
// killed.

import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import zlib from 'node:zlib';

const directory = process.argv[2];
const file = (name) => path.join(directory, name);
const keys = () => fs.readFileSync(file('keys.json'));

// What each path is answered with.
const answers = {
  '/keys': (request, response, query) => {
    const maxAge = query.getAll('max-age');
    if (maxAge.length > 0) {
      response.setHeader('Cache-Control', maxAge.map((age) => `public, max-age=${age}, must-revalidate`));
    }
    if (query.has('age')) response.setHeader('Age', query.get('age'));
    response.setHeader('Content-Type', 'application/json; charset=UTF-8');
    response.end(keys());
  },
  '/etag': (request, response) => {
    const etag = `"${keys().length}-${keys().toString('latin1').slice(40, 60).replace(/\W/g, '')}"`;
    response.setHeader('ETag', etag);
    response.setHeader('Cache-Control', 'max-age=20000');
    response.statusCode = request.headers['if-none-match'] === etag ? 304 : 200;
    response.end(response.statusCode === 200 ? keys() : undefined);
  },
  '/unchanged': (request, response, query) => {
    response.writeHead(304, { 'Cache-Control': `max-age=${query.get('max-age')}` }).end();
  },
  '/status': (request, response, query) => {
    response.writeHead(Number(query.get('code'))).end(keys());
  },
  '/redirect': (request, response, query) => {
    response.writeHead(302, { Location: query.get('to') }).end(keys());
  },
  '/text': (request, response, query) => response.end(query.get('body')),
  '/file': (request, response, query) => response.end(fs.readFileSync(file(query.get('name')))),
  '/slow': (request, response) => {
    response.writeHead(200, { 'Content-Length': keys().length });
    const bytes = keys();
    let sent = 0;
    const timer = setInterval(() => response.write(bytes.subarray(sent, ++sent)), 1000);
    response.on('close', () => clearInterval(timer));
  },
  '/never': () => {},
  '/silent-body': (request, response) => response.writeHead(200, { 'Content-Length': 100 }).flushHeaders(),
  '/truncated': (request, response) => {
    response.writeHead(200, { 'Content-Length': keys().length + 100 });
    response.write(keys(), () => response.socket.destroy());
  },
  '/cut': (request, response) => {
    response.writeHead(200, { 'Transfer-Encoding': 'chunked' });
    response.write(keys().subarray(0, 500), () => response.socket.destroy());
  },
  '/large': (request, response) => response.end(Buffer.alloc(10 * 1024 * 1024, ' ')),
  '/endless': (request, response) => {
    const chunk = Buffer.alloc(65536, ' ');
    const pour = () => { while (!response.destroyed && response.write(chunk)); };
    response.on('drain', pour);
    pour();
  },
  '/many-headers': (request, response) => {
    for (let i = 0; i < 300; i++) response.setHeader(`X-Padding-${i}`, 'x'.repeat(100));
    response.end(keys());
  },
  // 10 MB of spaces and a good document: 10 kB as they are sent.
  '/bomb': (request, response) => {
    response.setHeader('Content-Encoding', 'gzip');
    response.end(zlib.gzipSync(Buffer.concat([Buffer.alloc(10 * 1024 * 1024, ' '), keys()])));
  },
};

function answer(request, response) {
  const url = new URL(request.url, 'https://localhost');
  fs.appendFileSync(file('requests.log'), `${request.method} ${request.url}\n`);
  if (url.pathname in answers) answers[url.pathname](request, response, url.searchParams);
  else response.writeHead(404).end('<html>not found</html>');
}

function options(name, more) {
  return { cert: fs.readFileSync(file(`${name}.pem`)), key: fs.readFileSync(file(`${name}.key`)), ...more };
}

const servers = {
  good: https.createServer(options('good'), answer),
  other_name: https.createServer(options('other_name'), answer),
  unknown: https.createServer(options('unknown'), answer),
  expired: https.createServer(options('expired'), answer),
  old_tls: https.createServer(options('good', {
    minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0',
  }), answer),
  plain: http.createServer(answer),
  reset: net.createServer((socket) => socket.resetAndDestroy()),
  mute: net.createServer((socket) => socket.on('error', () => {})),
};

const ports = {};
for (const [name, server] of Object.entries(servers)) {
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.on('tlsClientError', () => {});
  ports[name] = server.address().port;
}
fs.writeFileSync(file('ports.json.new'), JSON.stringify(ports));
fs.renameSync(file('ports.json.new'), file('ports.json'));
