// What the gateway counts for Prometheus, which reads it with GET /metrics at an
// address of its own.
//
// Nothing here is named after what a client sends: no key, org, person or address of a
// client is in a label, and a path is counted by its template.  So the number of series
// has a bound, whatever clients do.

import { readFileSync } from 'node:fs';

import pg from 'pg';
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';

import { isPlain } from './errors.mjs';

const PREFIX = 'overten_gateway_';
const METHODS = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);
const OTHER = 'other';

// In seconds.  A verification takes less than the first; QUERY_TIMEOUT_MS is 5 s.
const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

// The gateway's own paths, and the API's as its description has them.
const OWN = new Set(['/healthz', '/readyz', '/authorize']);
const DASHBOARD = '/dashboard/';

function readTemplates() {
  const { servers: [{ url }], paths } =
    JSON.parse(readFileSync(new URL('openapi.json', import.meta.url), 'utf8'));

  return Object.keys(paths).map((path) => {
    const template = url + path;
    return { template, segments: template.split('/') };
  });
}

// Return the function that returns the template of a path.
function openRoutes() {
  const templates = readTemplates();

  return (path) => {
    const [bare] = path.split('?', 1);
    if (OWN.has(bare)) {
      return bare;
    }
    if (bare.startsWith(DASHBOARD)) {
      return DASHBOARD;
    }
    const parts = bare.split('/', 20);
    const fits = (segment, i) => segment === parts[i] || segment[0] === '{' && parts[i] !== '';
    return templates.find(({ segments }) => segments.length === parts.length &&
      segments.every(fits))?.template ?? OTHER;
  };
}

// The code of a refusal, which the database has written.
function codeOf(answer) {
  return /^\{"error":\{"code":"([a-z_]{1,40})"/.exec(answer?.body ?? '')?.[1] ?? '';
}

// What kind of error of the database this is: the class of its SQLSTATE, or else where
// it came from.
function classOf(error) {
  if (error instanceof pg.DatabaseError) {
    return /^[0-9A-Z]{5}$/.test(error.code) ? error.code.slice(0, 2) : OTHER;
  }
  if (!isPlain(error)) {
    return OTHER;
  }
  return /timeout/i.test(error.message) ? 'timeout' : 'connection';
}

// Begin to count.  "running" and "pool" return what there is now, "pool" for each server.
export function openMetrics({ running, pool }) {
  const registry = new Registry();
  const registers = [registry];
  const routeOf = openRoutes();
  const named = (name, help, more) => ({ name: PREFIX + name, help, registers, ...more });

  const requests = new Counter(named('requests_total',
    'Requests that have ended, by method, template of the path, status (none: the client did not wait for it) and code of the refusal.',
    { labelNames: ['method', 'route', 'status', 'code'] }));
  const seconds = new Histogram(named('request_duration_seconds',
    'How long requests took until their answer was sent.',
    { labelNames: ['route'], buckets: BUCKETS }));
  const errors = new Counter(named('database_errors_total',
    'Requests that failed at the database, by class of SQLSTATE; connection, timeout, or other.',
    { labelNames: ['class'] }));

  new Gauge(named('requests_running', 'Requests that are not answered yet, and the one that reads this.',
    { collect() { this.set(running()); } }));
  // One series for each server: the pool of one is full also while another has room.
  const perServer = (name, help, part) => new Gauge(named(name, help, {
    labelNames: ['server'],
    collect() {
      pool().forEach(({ server, [part]: value }) => this.set({ server }, value));
    },
  }));

  perServer('pool_connections_max', 'Most connections of the pool for a server (POOL_SIZE).', 'size');
  perServer('pool_connections_used', 'Connections of the pool that carry a request.', 'used');
  perServer('pool_connections_idle', 'Connections of the pool that wait for a request.', 'idle');
  perServer('pool_waiting', 'Requests that wait for a connection of the pool.', 'waiting');
  collectDefaultMetrics({ register: registry });

  return {
    // Count a request.  "status" is null if no answer was sent.
    count({ method, path, status, ms, answer, failure }) {
      const route = path === undefined ? OTHER : routeOf(path);

      requests.inc({
        method: METHODS.has(method) ? method : OTHER,
        route,
        status: status ?? 'none',
        code: codeOf(answer),
      });
      if (ms !== undefined) {
        seconds.observe({ route }, ms / 1000);
      }
      if (failure !== undefined) {
        errors.inc({ class: classOf(failure) });
      }
    },

    async answer() {
      return {
        status: 200,
        headers: { 'content-type': registry.contentType, 'cache-control': 'no-store' },
        body: await registry.metrics(),
        sameOrigin: true,
      };
    },
  };
}
