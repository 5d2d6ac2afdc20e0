#!/usr/bin/env node
// The gateway: carries each HTTP request to overten_handle_request, and its
// answer back.  All that the API says is said by the database; see request.mjs
// for what it is told, answers.mjs for the few answers that are given without
// it, settings.mjs for the environment variables.
//
// GET /healthz    200 while this process runs; does not ask the database
// GET /readyz     200 if the database answers and may be asked, else an error
// GET /authorize  GET /api/v1/verify for proxies, which do not look into a body:
//                 204 with the org in headers, or the same refusal
//
// SIGTERM and SIGINT end it when the running requests are answered.

import http from 'node:http';

import { openAccessLog, loggablePath } from './access_log.mjs';
import { healthy, internalError, unavailable, unreadableRequest } from './answers.mjs';
import { isPassing, nameOf, openDatabase } from './database.mjs';
import { addressOf, bodyOf, headersOf, pathOf } from './request.mjs';
import { readSettings } from './settings.mjs';

const MAX_HEADER_SIZE = 32 * 1024;
const LINGER_MS = 2000;

function fail(message) {
  process.stderr.write(`gateway: ${message}\n`);
  process.exit(1);
}

let settings;
try {
  settings = readSettings(process.env);
} catch (error) {
  fail(error.message);
}
const database = openDatabase(settings);
const log = openAccessLog(settings.accessLog);

// The response that each connection is busy with.
const answering = new WeakMap();

let stopping = false;

// What a proxy passes on of a key that was accepted.  Only what the database has
// made itself: the name of an org could be anything.
function authorized(answer) {
  const verified = JSON.parse(answer.body);

  return {
    status: 204,
    headers: {
      'cache-control': 'no-store',
      'x-overten-org-id': verified.org_id,
      'x-overten-tier': verified.tier,
      'x-overten-key-prefix': verified.key_prefix,
    },
  };
}

// The gateway's own paths, which can only be read.
const own = {
  '/healthz': () => healthy,
  '/readyz': async () => await database.ping() ? healthy : unavailable,
  '/authorize': async (request) => {
    const answer = await database.exchange('GET', '/api/v1/verify', headersOf(request), null);
    return answer.status === 200 ? authorized(answer) : answer;
  },
};

async function answerTo(request, path) {
  if (request.method === 'GET' && Object.hasOwn(own, path)) {
    return own[path](request);
  }
  return database.exchange(
    request.method, path, headersOf(request), await bodyOf(request));
}

// Send an answer.  A HEAD gets the headers alone, and no Content-Length: the
// database does not make the body that it would be the length of.  204 has
// neither.
function send(request, response, { status, headers, body }) {
  const bare = request.method === 'HEAD' || status === 204;
  const all = { ...headers };

  if (!bare) {
    all['Content-Length'] = Buffer.byteLength(body ?? '');
  }
  if (stopping) {
    all.Connection = 'close';
  }
  response.writeHead(status, all);
  response.end(bare ? undefined : body);
}

async function handle(request, response) {
  const started = performance.now();
  const path = pathOf(request.url);
  const entry = {
    time: new Date().toISOString(),
    client: addressOf(request),
    method: request.method,
    path: loggablePath(path),
  };
  let failure;

  answering.set(request.socket, response);
  response.on('close', () => {
    if (request.complete) {
      answering.delete(request.socket);
    } else {
      // Answered before the whole body came: read on for a while, so that the
      // client gets to see the answer, then cut the connection.
      setTimeout(() => request.destroy(), LINGER_MS).unref();
    }
    log({
      ...entry,
      status: response.headersSent ? response.statusCode : null,
      ms: Math.round((performance.now() - started) * 10) / 10,
      aborted: response.writableFinished ? undefined : true,
      error: failure,
    });
  });

  let answer;
  try {
    answer = await answerTo(request, path);
  } catch (error) {
    if (request.destroyed && !request.complete) {
      return;
    }
    failure = nameOf(error);
    answer = isPassing(error) ? unavailable : internalError;
  }
  if (!response.destroyed) {
    send(request, response, answer);
  }
}

const server = http.createServer({
  maxHeaderSize: MAX_HEADER_SIZE,
  headersTimeout: settings.headersTimeout,
  requestTimeout: settings.requestTimeout,
  keepAliveTimeout: settings.keepAlive,
  // How often the two time limits are looked at; node's default is 30 s.
  connectionsCheckingInterval: 1000,
}, handle);

// An expectation that is not understood is no reason to refuse a request that
// can be answered without it.
server.on('checkExpectation', handle);

// Requests that node's parser refuses never get to handle().
server.on('clientError', (error, socket) => {
  const { status, headers, body } = unreadableRequest(error.code);

  // Nothing may follow an answer that has begun.
  if (!socket.writable || error.code === 'ECONNRESET' || answering.get(socket)?.headersSent) {
    socket.destroy();
    return;
  }
  log({ time: new Date().toISOString(), client: addressOf({ socket }), status, error: error.code });
  const lines = Object.entries({
    ...headers,
    'Content-Length': Buffer.byteLength(body),
    Connection: 'close',
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`);
  // A client that does not close its side must not keep the connection.
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
});

// Stop accepting, let running requests finish, then leave the database.
function stop() {
  if (stopping) {
    return;
  }
  stopping = true;
  setTimeout(() => fail('requests were still running; stopped all the same'),
    settings.shutdownTimeout).unref();
  server.close(async () => {
    await database.close();
    process.exitCode = 0;
  });
  server.closeIdleConnections();
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);

server.on('error', (error) => fail(`cannot listen: ${error.code}`));
server.listen(settings.port, settings.host, () => {
  const { address, port } = server.address();
  process.stderr.write(`gateway: listening on ${address}:${port}\n`);
});
