// The settings of the gateway, read from the environment once, at the start.
//
// HOST, PORT            where to listen (127.0.0.1, 8080); PORT 0 takes a free one
// AUTHORIZE_LISTEN      where to answer GET /authorize, for proxies and services only
//                       (127.0.0.1:8079); off: nowhere
// METRICS_LISTEN        where to answer GET /metrics, for Prometheus only, such as
//                       127.0.0.1:9464; off: nowhere (off)
// PGHOST, PGPORT        a server, or lists of a primary and its standbys, as libpq
//                       reads them (localhost, 5432)
// PGTARGETSESSIONATTRS  which of these servers are asked, as libpq has it: any,
//                       read-write, read-only, primary, standby or prefer-standby (any)
// PGLOADBALANCEHOSTS    random: servers take turns in reading; disable: the first that
//                       can be asked reads (random)
// CHECK_INTERVAL_MS     how often each of several servers is asked whether it is well,
//                       and how long it may take to answer (1000)
// PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, …
//                       the database, as node-postgres takes them
// POOL_SIZE             most connections to a server for requests of people (10);
//                       queue.mjs says how they share them
// PIPELINES             connections to a server that verifications and /authorize share
//                       (2); 0: they use the pool, too, which is slower
// PREPARE               on: one prepared statement per connection; off: for poolers
//                       that give each transaction another server connection, such
//                       as pgbouncer before 1.21 in transaction mode; these do not
//                       work with PIPELINES, either (on)
// CONNECTION_LIFE_MS    how long a connection is used; only new connections see
//                       changed settings of the database or the role (300000)
// CONNECT_TIMEOUT_MS    how long a request waits for a free connection (3000)
// QUERY_TIMEOUT_MS      how long a request waits for the database's answer (5000)
// HEADERS_TIMEOUT_MS    how long a client may take to send its headers (10000)
// REQUEST_TIMEOUT_MS    how long a client may take to send a whole request (15000)
// KEEP_ALIVE_MS         how long an idle connection of a client stays open (60000)
// SHUTDOWN_TIMEOUT_MS   how long SIGTERM waits for running requests (10000)
// CORS_ORIGINS          origins of web pages that may read the answers, separated by
//                       commas, such as https://app.example.com (none)
// API_KEY_HEADER        a header in which clients may send an API key instead of as a
//                       Bearer, such as X-API-Key; off: none, so that it means nothing (off)
// FIREBASE_API_KEY      the public key of the Firebase project's web configuration; with
//                       it, /dashboard/ is a page where people manage their keys (none)
// FIREBASE_AUTH_DOMAIN  the authDomain of that configuration, or a domain of your own
//                       that serves its handler; with it, people can sign in to the
//                       dashboard with Google (none)
// FIREBASE_AUTH_EMULATOR_URL
//                       for development: where the dashboard signs people in instead of
//                       Firebase, such as http://127.0.0.1:9099 (none)
// ACCESS_LOG            on or off: one line of JSON per request on standard output (on)

import { originOf, readOrigins } from './cors.mjs';
import { canHaveKeys } from './request.mjs';
import { readTopology } from './servers.mjs';

const limits = {
  PORT: [8080, 0, 65535],
  CHECK_INTERVAL_MS: [1000, 10, 60000],
  POOL_SIZE: [10, 1, 1000],
  PIPELINES: [2, 0, 100],
  CONNECTION_LIFE_MS: [300000, 1, 86400000],
  CONNECT_TIMEOUT_MS: [3000, 1, 600000],
  QUERY_TIMEOUT_MS: [5000, 1, 600000],
  HEADERS_TIMEOUT_MS: [10000, 1, 600000],
  REQUEST_TIMEOUT_MS: [15000, 1, 600000],
  KEEP_ALIVE_MS: [60000, 1, 600000],
  SHUTDOWN_TIMEOUT_MS: [10000, 1, 600000],
};

function integer(environment, name) {
  const [fallback, minimum, maximum] = limits[name];
  const text = environment[name] || String(fallback);
  const value = Number(text);

  if (!/^[0-9]+$/.test(text) || value < minimum || value > maximum) {
    throw new Error(`${name} must be a number between ${minimum} and ${maximum}`);
  }
  return value;
}

function onOrOff(environment, name) {
  const text = environment[name] || 'on';

  if (text !== 'on' && text !== 'off') {
    throw new Error(`${name} must be on or off`);
  }
  return text === 'on';
}

// An address to listen at; undefined if it is off.
function listenAddress(environment, name, fallback) {
  const text = environment[name] || fallback;
  const [, host, port] = /^(?:\[([0-9a-f:]+)\]|([^:]+)):([0-9]{1,5})$/i.exec(text)?.filter((part) => part) ?? [];

  if (text === 'off') {
    return undefined;
  }
  if (port === undefined || Number(port) > 65535) {
    throw new Error(`${name} must be an address and a port, such as 127.0.0.1:8079, or off`);
  }
  return { host, port: Number(port) };
}

// The name of the header in which keys come; undefined if there is none.
function apiKeyHeader(environment) {
  const name = environment.API_KEY_HEADER || 'off';

  if (name === 'off') {
    return undefined;
  }
  if (!canHaveKeys(name)) {
    throw new Error('API_KEY_HEADER must be the name of a header that means nothing else, such as X-API-Key, or off');
  }
  return name;
}

// The settings of the dashboard; null if there is none.
function dashboard(environment) {
  const apiKey = environment.FIREBASE_API_KEY || '';
  const authDomain = environment.FIREBASE_AUTH_DOMAIN || undefined;
  const emulatorUrl = environment.FIREBASE_AUTH_EMULATOR_URL || undefined;

  if (!/^[A-Za-z0-9_-]{0,200}$/.test(apiKey)) {
    throw new Error('FIREBASE_API_KEY must be letters, digits, - and _');
  }
  // These two become parts of the policy of the page.
  if (authDomain !== undefined && !/^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]$/.test(authDomain)) {
    throw new Error('FIREBASE_AUTH_DOMAIN must be a domain, such as example.firebaseapp.com');
  }
  if (emulatorUrl !== undefined && originOf(emulatorUrl) !== emulatorUrl) {
    throw new Error('FIREBASE_AUTH_EMULATOR_URL must be an origin, such as http://127.0.0.1:9099');
  }
  if (apiKey === '' && authDomain !== undefined) {
    throw new Error('FIREBASE_AUTH_DOMAIN is for the dashboard, which needs FIREBASE_API_KEY');
  }
  return apiKey === '' ? null : { apiKey, authDomain, emulatorUrl };
}

// Return all settings as one object.  Throws an Error that names the wrong setting.
export function readSettings(environment) {
  const prepare = onOrOff(environment, 'PREPARE');

  return {
    host: environment.HOST || '127.0.0.1',
    port: integer(environment, 'PORT'),
    authorize: listenAddress(environment, 'AUTHORIZE_LISTEN', '127.0.0.1:8079'),
    metrics: listenAddress(environment, 'METRICS_LISTEN', 'off'),
    topology: readTopology(environment),
    checkInterval: integer(environment, 'CHECK_INTERVAL_MS'),
    poolSize: integer(environment, 'POOL_SIZE'),
    pipelines: prepare ? integer(environment, 'PIPELINES') : 0,
    prepare,
    connectionLife: integer(environment, 'CONNECTION_LIFE_MS'),
    connectTimeout: integer(environment, 'CONNECT_TIMEOUT_MS'),
    queryTimeout: integer(environment, 'QUERY_TIMEOUT_MS'),
    headersTimeout: integer(environment, 'HEADERS_TIMEOUT_MS'),
    requestTimeout: integer(environment, 'REQUEST_TIMEOUT_MS'),
    keepAlive: integer(environment, 'KEEP_ALIVE_MS'),
    shutdownTimeout: integer(environment, 'SHUTDOWN_TIMEOUT_MS'),
    corsOrigins: readOrigins(environment.CORS_ORIGINS ?? ''),
    apiKeyHeader: apiKeyHeader(environment),
    dashboard: dashboard(environment),
    accessLog: onOrOff(environment, 'ACCESS_LOG'),
  };
}
