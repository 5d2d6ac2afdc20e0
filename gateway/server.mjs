#!/usr/bin/env node
// The gateway: passes each HTTP request to overten_handle_request, and returns its
// answer.  The database decides everything that the API says.  request.mjs says what
// we tell the database; answers.mjs has the few answers that we give without it;
// settings.mjs lists the environment variables.
//
//   GET /healthz    200 while this process runs; does not ask the database
//   GET /readyz     200 if a server of the database answers and we may call it, or else
//                   an error
//   GET /dashboard/ a page where people manage their keys, if it is configured
//
// At an address of its own, which only proxies and services may reach, it answers
//
//   GET /authorize  may a request with these headers go on?  It passes the query and
//                   the headers to overten_authorize_request, and returns its answer
//
// because a client could name a cost there that uses up all that its org may use.  At
// another one, if METRICS_LISTEN is set, it answers
//
//   GET /metrics    what it has counted, for Prometheus (metrics.mjs)
//
// SIGTERM and SIGINT end the gateway when the running requests are answered.  So does
// a mistake in the program that no request has caused, with exit status 1.

import http from 'node:http';

import { openAccessLog, loggablePath } from './access_log.mjs';
import {
  healthy, internalError, malformed, notFound, readOnly, unavailable, unreadableRequest,
} from './answers.mjs';
import { openCors } from './cors.mjs';
import { openDashboard } from './dashboard.mjs';
import { openDatabase } from './database.mjs';
import { isPassing, nameOf } from './errors.mjs';
import { Exchanges } from './exchanges.mjs';
import { addressOf, bodyOf, headersOf, isWellFormed, pathOf } from './request.mjs';
import { readSettings } from './settings.mjs';
import { inTurn } from './turns.mjs';

const MAX_HEADER_SIZE = 32 * 1024;
const LINGER_MS = 2000;

// How long we do not repeat a report.
const REPORT_MS = 60_000;

// Report something to the operator.
function say(message) {
  process.stderr.write(`gateway: ${message}\n`);
}

function fail(message) {
  say(message);
  process.exit(1);
}

const reported = new Map();

// Report a problem, but not each time that it happens.
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
let dashboard;
try {
  settings = readSettings(process.env);
  dashboard = openDashboard(settings.dashboard);
} catch (error) {
  fail(error.message);
}
const database = openDatabase(settings, report, say);
const log = openAccessLog(settings.accessLog);
const cors = openCors(settings.corsOrigins, settings.apiKeyHeader);
const exchanges = new Exchanges();
// Without them, the package that counts is not even loaded.
const metrics = settings.metrics && (await import('./metrics.mjs')).openMetrics({
  running: () => exchanges.size,
  pool: database.pool,
});
let stopping = false;

async function readiness() {
  const { reads, writes } = await database.state();

  return !reads ? unavailable : writes ? healthy : readOnly;
}

// The gateway's own paths, which accept only GET and HEAD.
const own = {
  '/healthz': () => healthy,
  '/readyz': readiness,
};
const ownForProxies = {
  ...own,
  '/authorize': (request, query, seen) => database.authorize(query, headersOf(request, settings.apiKeyHeader), seen),
};
const ownForPrometheus = { '/metrics': () => metrics.answer() };

function ownAnswer(paths, request, path, seen) {
  const [bare, ...query] = path.split('?');

  return (request.method === 'GET' || request.method === 'HEAD') && Object.hasOwn(paths, bare)
    ? paths[bare](request, query.join('?'), seen) : undefined;
}

// Answer a client.  Which servers were asked is noted in "seen".
async function answerClient(request, path, seen) {
  const found = ownAnswer(own, request, path, seen) ?? dashboard.answer(request, path) ??
    cors.preflight(request);
  if (found !== undefined) {
    return found;
  }
  const headers = headersOf(request, settings.apiKeyHeader);
  const body = await bodyOf(request);
  return inTurn(request, headers,
    () => database.exchange(request.method, path, headers, body, seen));
}

// Answer a proxy or a service.
async function answerProxy(request, path, seen) {
  return ownAnswer(ownForProxies, request, path, seen) ?? notFound;
}

// Answer Prometheus.
async function answerPrometheus(request, path) {
  return ownAnswer(ownForPrometheus, request, path) ?? notFound;
}

// Send an answer.  A HEAD gets only the headers, without a Content-Length, because
// the database does not make the body whose length it would be.  A 204 has neither.
function send(request, response, { status, headers, body, sameOrigin }) {
  const bare = request.method === 'HEAD' || status === 204;
  const all = { ...headers, ...(sameOrigin ? {} : cors.headers(request)) };

  if (!bare) {
    all['Content-Length'] = Buffer.byteLength(body ?? '');
  }
  if (stopping) {
    all.Connection = 'close';
  }
  response.writeHead(status, all);
  response.end(bare ? undefined : body);
}

// Answer a request by a function.  Returns the answer, and what went wrong.
async function respond(exchange, path, answerTo, seen) {
  const { request, response } = exchange;
  let answer;
  let failure;

  try {
    answer = isWellFormed(request, path) ? await answerTo(request, path, seen) : malformed;
  } catch (error) {
    if (request.destroyed && !request.complete) {
      return {};
    }
    failure = error;
    answer = isPassing(error) ? unavailable : internalError;
  }
  if (!exchange.refused && !response.destroyed) {
    try {
      send(request, response, answer);
    } catch (error) {
      failure = error;
      answer = internalError;
      response.headersSent ? response.destroy() : send(request, response, answer);
    }
  }
  return { answer, failure };
}

function handle(request, response, answerTo) {
  const started = performance.now();
  const path = pathOf(request.url);
  const entry = {
    time: new Date().toISOString(),
    client: addressOf(request),
    method: request.method,
    path: loggablePath(path),
  };
  const exchange = exchanges.begin(request, response);
  const seen = {};
  const responded = respond(exchange, path, answerTo, seen);

  exchange.ended.then(async () => {
    if (!request.complete) {
      // We have answered before the whole body came.  Read on for a while, so that
      // the client gets the answer, and then cut the connection.
      setTimeout(() => request.destroy(), LINGER_MS).unref();
    }
    const ms = Math.round((performance.now() - started) * 10) / 10;
    const status = response.headersSent ? response.statusCode : null;
    const { answer, failure } = await responded;
    log({
      ...entry,
      status,
      ms,
      aborted: response.writableFinished ? undefined : true,
      error: failure && nameOf(failure),
      server: seen.server,
      passed: seen.passed,
    });
    // What Prometheus itself asks is not counted; refuse() counts what it answers.
    if (answerTo !== answerPrometheus && !exchange.byHand) {
      metrics?.count({ method: request.method, path, status, ms, answer, failure });
    }
  });
}

// Answer by hand, when its turn has come, a request without a response; then close
// the connection.
function refuse(socket, answer, reason) {
  exchanges.refuse(socket, (request) => {
    const { status, headers, body } = answer;
    const lines = Object.entries({
      ...headers,
      ...cors.headers(request),
      'Content-Length': Buffer.byteLength(body),
      Connection: 'close',
    }).map(([name, value]) => `${name}: ${value}\r\n`);

    log({ time: new Date().toISOString(), client: addressOf({ socket }), status, error: reason });
    metrics?.count({ status, answer });
    socket.end(`HTTP/1.1 ${status} ${http.STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`);
    // A client that does not close its side must not keep the connection open.
    setTimeout(() => socket.destroy(), LINGER_MS).unref();
  });
}

// The servers, and their connections: node does not count a connection as idle if
// nothing has come on it yet.
const servers = [];
const connections = new Set();

// Answer requests at an address by a function.  "what" tells the operator which they
// are.
function listen({ host, port }, what, answerTo) {
  const answer = (request, response) => handle(request, response, answerTo);
  const server = http.createServer({
    maxHeaderSize: MAX_HEADER_SIZE,
    headersTimeout: settings.headersTimeout,
    requestTimeout: settings.requestTimeout,
    keepAliveTimeout: settings.keepAlive,
    // How often node checks the two time limits; its default is 30 s.
    connectionsCheckingInterval: 1000,
    // isWellFormed() looks at that, so that the answer is the API's.
    requireHostHeader: false,
  }, answer);

  // If we do not know an expectation, we can still answer the request without it.
  server.on('checkExpectation', answer);
  // Requests that node's parser refuses never reach handle(), and neither does a
  // CONNECT.
  server.on('clientError', (error, socket) => {
    if (error.code === 'ECONNRESET') {
      socket.destroy();
    } else {
      refuse(socket, unreadableRequest(error.code), error.code);
    }
  });
  server.on('connect', (request, socket) => refuse(socket, malformed));
  server.on('connection', (socket) => {
    connections.add(socket);
    socket.on('close', () => {
      connections.delete(socket);
      exchanges.endAll(socket);
    });
    // An error that nobody listens for would end the process, and node takes its own
    // listener off before it reports a CONNECT.
    socket.on('error', () => socket.destroy());
  });
  server.on('error', (error) => fail(`cannot be ${what} ${host}:${port}: ${error.code}`));
  server.listen(port, host, () => {
    const { address, port: taken } = server.address();
    say(`${what} ${address}:${taken}`);
  });
  servers.push(server);
}

// Stop accepting, let running requests finish, then close the database connections.
function stop(reason) {
  if (stopping) {
    return;
  }
  stopping = true;
  say(`${reason}: stopping, requests that are running: ${exchanges.size}`);
  setTimeout(() => fail('requests were still running; stopped all the same'),
    settings.shutdownTimeout).unref();
  Promise.all(servers.map((server) => new Promise((closed) => {
    server.close(closed);
    server.closeIdleConnections();
  }))).then(async () => {
    await database.close();
    say('stopped');
    // Exit after the last lines of the access log are written; nothing else matters
    // now.
    setImmediate(() => process.exit());
  });
  for (const socket of connections) {
    if (socket.bytesRead === 0) {
      socket.destroy();
    }
  }
}
process.on('SIGTERM', stop);
process.on('SIGINT', stop);

// There is a mistake in the program, which may be unable to continue.  We report
// where it happened, but not its message, which could contain a secret.
process.on('uncaughtException', (error) => {
  const places = String(error?.stack).split('\n').filter((line) => /^ {4}at /.test(line));

  process.exitCode = 1;
  say([`uncaught ${nameOf(error)}`, ...places].join('\n'));
  stop(nameOf(error));
});

listen(settings, 'listening on', answerClient);
if (settings.authorize !== undefined) {
  listen(settings.authorize, 'answering /authorize on', answerProxy);
}
if (settings.metrics !== undefined) {
  listen(settings.metrics, 'answering /metrics on', answerPrometheus);
}
if (settings.dashboard?.emulatorUrl !== undefined) {
  say('FOR DEVELOPMENT ONLY: people sign in to the dashboard at FIREBASE_AUTH_EMULATOR_URL, not at Firebase');
}
// Try the database, so that we report problems with it before the first request.
database.state();
