// A stand-in for PostgREST, which cannot be installed where the tests run.  It does to
// a request what was seen of versions 12.2.12, 13.0.8 and 14.17, also where that is
// unkind, and what the functions of overten_api and nginx.conf build upon:
//
// - an Authorization: Bearer is decoded as a JWT before anything else: without a
//   jwt-secret that is 500 PGRST300, whatever the token;
// - a GET or HEAD runs in a READ ONLY transaction, a POST in one that writes, which a
//   standby cannot begin: 400 0A000; other methods on a function are 405 PGRST101, but
//   OPTIONS is answered;
// - role, request.method, request.path and request.headers (lower-case names) are set
//   for the transaction, and search_path to the schema, but for what the role's own
//   settings say; then the function db-pre-request is called, if there is one;
// - a header that is not UTF-8 is 500 in plain text, and the connection goes back to the
//   pool inside of its transaction, where it breaks the requests of others;
// - a GET's query, or the members of a POST's body, give the named arguments; else the
//   body is the one unnamed json parameter.  A body that is not JSON, begins with a byte
//   order mark, has half of a surrogate pair, is nested deeply or is an array of unlike
//   elements is 400 PGRST102 before the database is asked; an empty one is 400 22P02 by
//   the database;
// - a function that does not exist with these arguments, or not for this media type, is
//   404 PGRST202;
// - for a HEAD the query does not reference the function's result.  Its answer has no
//   length, and the connection is closed afterwards, without a word about that;
// - response.status and response.headers (an array of objects) are the answer's; a json
//   result is its body, with its length, which is 4 ("null") even for a 204; void is 204
//   without a body;
// - any 503 is taken for an outage: it gets a Retry-After of 0 before its own, and the
//   schema cache is loaded again;
// - an error rolls back; what it is answered with is in postgrest_errors.mjs.
//
// Usage: postgrest_contract.mjs postgrest.conf [VERSION]
// It reads the settings of that file that are strings or numbers, prints
// "listening on PORT", and ends on SIGTERM.  VERSION is 12, 13 or 14 (14).

import fs from 'node:fs';
import http from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';

import { Calls } from './postgrest_calls.mjs';
import { problem } from './postgrest_errors.mjs';

// So long does a connection still look alive after the answer to a HEAD.  With
// PostgREST it is a matter of luck who is faster; here it is always too slow.
const UNANNOUNCED_MS = 50;

function readConfiguration(path) {
  const settings = {};

  for (const line of fs.readFileSync(path, 'utf8').split('\n')) {
    const [, name, quoted, number] =
      /^([a-z-]+) *= *(?:"(.*)"|(\d+))$/.exec(line) ?? [];

    if (name !== undefined) {
      settings[name] = (quoted ?? number).replace(/\$\((\w+)\)/g, (_, variable) => process.env[variable]);
    }
  }
  return settings;
}

const settings = readConfiguration(process.argv[2]);
const version = Number(process.argv[3] ?? 14);
const calls = new Calls(settings, version);

// What PostgREST makes of an Authorization header, without a jwt-secret: the answer
// that refuses the request, or nothing.
function refuseToken(header) {
  const [, token] = /^Bearer *(.*)$/i.exec(header ?? '') ?? [];

  if (token === undefined || token === '' && version === 12) {
    return undefined;
  }
  return token === '' && version === 13
    ? problem(version, 401, 'PGRST301', 'Empty JWT is sent in Authorization header',
      [['WWW-Authenticate', 'Bearer error="invalid_token"']])
    : problem(version, 500, 'PGRST300', 'Server lacks JWT secret');
}

// The headers that a function has set take the place of PostgREST's own.
function mergeHeaders(own, json) {
  const set = JSON.parse(json ?? '[]').flatMap(Object.entries);
  const names = new Set(set.map(([name]) => name.toLowerCase()));

  return [...own.filter(([name]) => !names.has(name.toLowerCase())), ...set];
}

async function answerTo(request, bytes) {
  const url = new URL(request.url, 'http://localhost');
  const [, name] = /^\/rpc\/(\w+)$/.exec(url.pathname) ?? [];
  const refusal = refuseToken(request.headers.authorization);

  if (refusal !== undefined) {
    return refusal;
  }
  if (name === undefined) {
    return problem(version, 404, 'PGRST125', 'Invalid path specified in request URL');
  }
  if (!['GET', 'HEAD', 'POST', 'OPTIONS'].includes(request.method)) {
    return problem(version, 405, 'PGRST101', `Cannot use the ${request.method} method on RPC`);
  }
  const call = calls.find(request, name, url.searchParams, bytes);
  if (call.refusal !== undefined) {
    return call.refusal;
  }
  if (call.info !== undefined) {
    const allow = call.info.volatile ? 'OPTIONS,POST' : 'OPTIONS,GET,HEAD,POST';
    return { status: 200, headers: [['Access-Control-Allow-Origin', '*'], ['Allow', allow]], body: '' };
  }
  const { row, refusal: failure } = await calls.run(request, url.pathname, call);
  if (failure !== undefined) {
    return failure;
  }
  const range = ['Content-Range', '0-0/*'];
  if (call.found.void) {
    return { status: Number(row.status ?? 204), headers: mergeHeaders([range], row.headers) };
  }
  return {
    status: Number(row.status ?? 200),
    headers: mergeHeaders([['Content-Type', 'application/json; charset=utf-8'], range], row.headers),
    body: row.body,
  };
}

// Connections on which a HEAD was answered.
const abandoned = new WeakSet();

async function answerHead(socket, status, headers) {
  abandoned.add(socket);
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  socket.write(`HTTP/1.1 ${status} ${http.STATUS_CODES[status] ?? ''}\r\n${lines}\r\n`);
  await wait(UNANNOUNCED_MS);
  socket.end();
}

async function handle(request, response) {
  const chunks = [];

  for await (const chunk of request) {
    chunks.push(chunk);
  }
  if (abandoned.has(request.socket)) {
    return;
  }
  const { status, headers, body } = await answerTo(request, Buffer.concat(chunks));
  const outage = status === 503 ? [['Retry-After', '0']] : [];
  if (status === 503) {
    process.stdout.write('loading the schema cache again\n');
    calls.load().catch(() => {});
  }
  if (request.method === 'HEAD') {
    await answerHead(request.socket, status, [...outage, ...headers]);
    return;
  }
  const length = body === undefined ? [] : [['Content-Length', Buffer.byteLength(body)]];
  response.writeHead(status, [...outage, ...headers, ...length].flat());
  response.end(body);
}

// A client that goes away before it has sent its body gets no answer.
const server = http.createServer({ maxHeaderSize: 64 * 1024 },
  (request, response) => handle(request, response).catch(() => request.socket.destroy()));

process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
  calls.pool.end();
});

await calls.load();
server.listen(Number(settings['server-port']), settings['server-host'], () => {
  process.stdout.write(`listening on ${server.address().port}\n`);
});
