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
// SIGTERM and SIGINT end it when the running requests are answered; so does a mistake
// in the program that no request is to blame for, with exit status 1.

import http from 'node:http';

import { openAccessLog, loggablePath } from './access_log.mjs';
import {
  authorized, healthy, internalError, malformed, unavailable, unreadableRequest,
} from './answers.mjs';
import { isPassing, nameOf, openDatabase } from './database.mjs';
import { Exchanges } from './exchanges.mjs';
import { addressOf, bodyOf, headersOf, isWellFormed, pathOf } from './request.mjs';
import { readSettings } from './settings.mjs';

const MAX_HEADER_SIZE = 32 * 1024;
const LINGER_MS = 2000;

// How long what was reported is not told again.
const REPORT_MS = 60_000;

// Tell who runs the gateway.
function say(message) {
  process.stderr.write(`gateway: ${message}\n`);
}

function fail(message) {
  say(message);
  process.exit(1);
}

const reported = new Map();

// Tell what is wrong, but not each time that it is met.
function report(message) {
  const now = performance.now();

  if (message === undefined || now - reported.get(message) < REPORT_MS) {
    return;
  }
  if (reported.size > 100) {
    reported.clear();
  }
  reported.set(message, now);
  say(message);
}

let settings;
try {
  settings = readSettings(process.env);
} catch (error) {
  fail(error.message);
}
const database = openDatabase(settings, report);
const log = openAccessLog(settings.accessLog);
const exchanges = new Exchanges();
let stopping = false;

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
  if (!isWellFormed(request, path)) {
    return malformed;
  }
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

// Answer a request; returns the name of what went wrong.
async function respond(exchange, path) {
  const { request, response } = exchange;
  let answer;
  let failure;

  try {
    answer = await answerTo(request, path);
  } catch (error) {
    if (request.destroyed && !request.complete) {
      return undefined;
    }
    failure = error;
    answer = isPassing(error) ? unavailable : internalError;
  }
  if (!exchange.refused && !response.destroyed) {
    try {
      send(request, response, answer);
    } catch (error) {
      failure = error;
      response.headersSent ? response.destroy() : send(request, response, internalError);
    }
  }
  return failure && nameOf(failure);
}

function handle(request, response) {
  const started = performance.now();
  const path = pathOf(request.url);
  const entry = {
    time: new Date().toISOString(),
    client: addressOf(request),
    method: request.method,
    path: loggablePath(path),
  };
  const exchange = exchanges.begin(request, response);
  const responded = respond(exchange, path);

  response.on('close', async () => {
    if (!request.complete) {
      // Answered before the whole body came: read on for a while, so that the
      // client gets to see the answer, then cut the connection.
      setTimeout(() => request.destroy(), LINGER_MS).unref();
    }
    const ms = Math.round((performance.now() - started) * 10) / 10;
    log({
      ...entry,
      status: response.headersSent ? response.statusCode : null,
      ms,
      aborted: response.writableFinished ? undefined : true,
      error: await responded,
    });
  });
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

// Answer by hand what has no response, when its turn comes, and close the connection.
function refuse(socket, answer, reason) {
  exchanges.refuse(socket, () => {
    const { status, headers, body } = answer;
    const lines = Object.entries({
      ...headers,
      'Content-Length': Buffer.byteLength(body),
      Connection: 'close',
    }).map(([name, value]) => `${name}: ${value}\r\n`);

    log({ time: new Date().toISOString(), client: addressOf({ socket }), status, error: reason });
    socket.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`);
    // A client that does not close its side must not keep the connection.
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  });
}

// Requests that node's parser refuses never get to handle(), nor does a CONNECT.
server.on('clientError', (error, socket) => {
  if (error.code === 'ECONNRESET') {
    socket.destroy();
  } else {
    refuse(socket, unreadableRequest(error.code), error.code);
  }
});
server.on('connect', (request, socket) => refuse(socket, malformed));

// A connection on which nothing has come yet is not idle to node.
const connections = new Set();
server.on('connection', (socket) => {
  connections.add(socket);
  socket.on('close', () => connections.delete(socket));
});

// Stop accepting, let running requests finish, then leave the database.
function stop(reason) {
  if (stopping) {
    return;
  }
  stopping = true;
  say(`${reason}: stopping, requests that are running: ${exchanges.size}`);
  setTimeout(() => fail('requests were still running; stopped all the same'),
    settings.shutdownTimeout).unref();
  server.close(async () => {
    await database.close();
    say('stopped');
    // Behind the last lines of the access log; what else goes on is of no use to anybody.
    setImmediate(() => process.exit());
  });
  server.closeIdleConnections();
  for (const socket of connections) {
    if (socket.bytesRead === 0) {
      socket.destroy();
    }
  }
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);

// A mistake in the program, which it may not be in a state to go on after.  Where it
// was is told, but not its message, which could have a secret in it.
process.on('uncaughtException', (error) => {
  const places = String(error?.stack).split('\n').filter((line) => /^ {4}at /.test(line));

  process.exitCode = 1;
  say([`uncaught ${nameOf(error)}`, ...places].join('\n'));
  stop(nameOf(error));
});

server.on('error', (error) => fail(`cannot listen: ${error.code}`));
server.listen(settings.port, settings.host, () => {
  const { address, port } = server.address();
  say(`listening on ${address}:${port}`);
});
// Try the database, so that what is wrong with it is told before anybody asks.
database.ping();
