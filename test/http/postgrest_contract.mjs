// A stand-in for PostgREST, which cannot be installed where the tests run.  It
// does to a request what PostgREST's documentation and source say of versions
// 12 to 14, and what the functions of overten_api and nginx.conf build upon:
//
// - an Authorization: Bearer is decoded as a JWT before anything else: without
//   a jwt-secret that is 500 PGRST300, whatever the token;
// - a GET or HEAD runs in a READ ONLY transaction, a POST in one that writes;
//   other methods on a function are 405 PGRST101;
// - role, request.method, request.path and request.headers (lower-case names)
//   are set for the transaction, which starts without search_path; then the
//   function db-pre-request is called, if there is one;
// - a GET's query gives the named arguments; a POST's body is the one unnamed
//   json parameter.  A body that is not JSON is 400 PGRST102 before the
//   database is asked, an empty one is {}; other media types are 415 PGRST102;
// - a function that does not exist with these arguments is 404 PGRST202;
// - for a HEAD the query does not reference the function's result;
// - response.status and response.headers (an array of objects) are the answer's;
//   a json result is its body, with its length, which is 4 ("null") even for a
//   204; void is 204 without a body;
// - an error rolls back.  SQLSTATE PGRST: message and detail are JSON and give
//   body, status and headers; PTnnn: the status; else a status by SQLSTATE, and
//   code, message, details and hint of the error in the body.
//
// Usage: postgrest_contract.mjs postgrest.conf
// It reads the settings of that file that are strings or numbers, prints
// "listening on PORT", and ends on SIGTERM.

import fs from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(new URL('../../gateway/package.json', import.meta.url));
const pg = require('pg');

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
const schema = settings['db-schemas'];
const pool = new pg.Pool({
  connectionString: settings['db-uri'],
  max: Number(settings['db-pool']),
  connectionTimeoutMillis: Number(settings['db-pool-acquisition-timeout']) * 1000,
});
// Neither an idle connection that breaks nor one that a request has may end the
// process; the request is told.
pool.on('error', () => {});
pool.on('connect', (client) => client.on('error', () => {}));

// An answer of PostgREST itself.
function problem(status, code, message, headers = {}) {
  return {
    status,
    headers: { 'Content-Type': 'application/json; charset=utf-8', ...headers },
    body: JSON.stringify({ code, details: null, hint: null, message }),
  };
}

// HTTP statuses by SQLSTATE, the longest prefix first.
const STATUSES = [
  ['25006', 405], ['21000', 400], ['22023', 400], ['42501', 401], ['42883', 404],
  ['42P01', 404], ['57P01', 503], ['P0001', 400],
  ['08', 503], ['22', 400], ['23', 409], ['25', 500], ['28', 403], ['40', 500],
  ['53', 503], ['54', 413], ['55', 500], ['57', 500], ['58', 500],
];

function answerToError(error) {
  if (!(error instanceof pg.DatabaseError)) {
    return /timeout exceeded/.test(error.message)
      ? problem(504, 'PGRST003', 'Timed out acquiring connection from connection pool.')
      : problem(503, 'PGRST000', 'Database connection error. Retrying the connection.');
  }
  if (error.code === 'PGRST') {
    const message = JSON.parse(error.message);
    const detail = JSON.parse(error.detail);

    return {
      status: detail.status,
      headers: { 'Content-Type': 'application/json; charset=utf-8', ...detail.headers },
      body: JSON.stringify({
        code: message.code,
        details: message.details ?? null,
        hint: message.hint ?? null,
        message: message.message,
      }),
    };
  }
  const status = /^PT\d{3}$/.test(error.code)
    ? Number(error.code.slice(2))
    : STATUSES.find(([prefix]) => error.code.startsWith(prefix))?.[1] ?? 400;
  return {
    status,
    headers: {
      'Content-Type': 'application/json; charset=utf-8',
      ...(status === 401 ? { 'WWW-Authenticate': 'Bearer' } : {}),
    },
    body: JSON.stringify({
      code: error.code,
      details: error.detail ?? null,
      hint: error.hint ?? null,
      message: error.message,
    }),
  };
}

// The functions of the schema, as PostgREST keeps them: read once.
let functions;

async function loadFunctions() {
  const { rows } = await pool.query(
    `SELECT p.proname AS name, p.prorettype = 'void'::regtype AS void,
       coalesce(p.proargnames, '{}') AS names,
       array(SELECT t::regtype::text FROM unnest(p.proargtypes) WITH ORDINALITY u (t, i) ORDER BY i) AS types
     FROM pg_proc p WHERE p.pronamespace = $1::regnamespace`, [schema]);
  functions = rows;
}

function isUnnamedJson(candidate) {
  return candidate.types.length === 1 && candidate.types[0] === 'json' &&
    (candidate.names[0] ?? '') === '';
}

// The function and the SQL text and values of its call.
function findCall(request, name, query, body) {
  const candidates = functions.filter((candidate) => candidate.name === name);

  if (request.method === 'POST') {
    const found = candidates.find(isUnnamedJson);
    return found && { found, sql: `${schema}.${name}($1::json)`, values: [body === '' ? '{}' : body] };
  }
  const given = [...query.keys()];
  const found = candidates.find((candidate) => !isUnnamedJson(candidate) &&
    given.every((argument) => candidate.names.includes(argument)));
  return found && {
    found,
    sql: `${schema}.${name}(${given.map((argument, i) => `"${argument}" := $${i + 1}`).join(', ')})`,
    values: given.map((argument) => query.get(argument)),
  };
}

async function runCall(request, path, call) {
  const client = await pool.connect();
  let broken;

  try {
    const reading = request.method === 'POST' ? 'READ WRITE' : 'READ ONLY';
    await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED ${reading}`);
    await client.query(
      `SELECT set_config('search_path', $1, true), set_config('role', $2, true),
         set_config('request.jwt.claims', $3, true), set_config('request.method', $4, true),
         set_config('request.path', $5, true), set_config('request.headers', $6, true),
         set_config('request.cookies', '{}', true)`,
      [`"${schema}"`, settings['db-anon-role'], JSON.stringify({ role: settings['db-anon-role'] }),
        request.method, path, JSON.stringify(request.headers)]);
    if (settings['db-pre-request'] !== undefined) {
      await client.query(`SELECT ${settings['db-pre-request']}()`);
    }
    const body = request.method === 'HEAD'
      ? "''" : "coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null')::text";
    const { rows: [row] } = await client.query(
      `WITH pgrst_source AS (SELECT ${call.sql} AS pgrst_scalar)
       SELECT ${call.found.void ? "''" : body} AS body,
         nullif(current_setting('response.headers', true), '') AS headers,
         nullif(current_setting('response.status', true), '') AS status
       FROM (SELECT pgrst_source.* FROM pgrst_source) _postgrest_t`, call.values);
    await client.query('COMMIT');
    return row;
  } catch (error) {
    broken = error instanceof pg.DatabaseError && !error.code.startsWith('57P') ? undefined : error;
    if (broken === undefined) {
      await client.query('ROLLBACK');
    }
    throw error;
  } finally {
    client.release(broken);
  }
}

async function answerTo(request, bytes) {
  const url = new URL(request.url, 'http://localhost');
  const [, name] = /^\/rpc\/(\w+)$/.exec(url.pathname) ?? [];
  let body;

  if (/^Bearer /i.test(request.headers.authorization ?? '')) {
    return problem(500, 'PGRST300', 'Server lacks JWT secret');
  }
  if (name === undefined) {
    return problem(404, 'PGRST125', 'Invalid path specified in request URL');
  }
  if (!['GET', 'HEAD', 'POST'].includes(request.method)) {
    return problem(405, 'PGRST101', `Cannot use the ${request.method} method on RPC`);
  }
  if (request.method === 'POST') {
    if (!/^application\/json(;|$)/.test(request.headers['content-type'] ?? 'application/json')) {
      return problem(415, 'PGRST102', 'Content-Type not acceptable');
    }
    try {
      body = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
      JSON.parse(body === '' ? '{}' : body);
    } catch {
      return problem(400, 'PGRST102', 'Empty or invalid json');
    }
  }
  const call = findCall(request, name, url.searchParams, body);
  if (call === undefined) {
    return problem(404, 'PGRST202', `Could not find the function ${schema}.${name} in the schema cache`);
  }

  let row;
  try {
    row = await runCall(request, url.pathname, call);
  } catch (error) {
    return answerToError(error);
  }
  const headers = {};
  for (const header of JSON.parse(row.headers ?? '[]')) {
    Object.assign(headers, header);
  }
  if (call.found.void) {
    return { status: Number(row.status ?? 204), headers: { 'Content-Range': '0-0/*', ...headers } };
  }
  const defaults = { 'content-type': 'application/json; charset=utf-8', 'Content-Range': '0-0/*' };
  return { status: Number(row.status ?? 200), headers: { ...defaults, ...headers }, body: row.body };
}

const server = http.createServer({ maxHeaderSize: 64 * 1024 }, async (request, response) => {
  const chunks = [];

  for await (const chunk of request) {
    chunks.push(chunk);
  }
  const { status, headers, body } = await answerTo(request, Buffer.concat(chunks));
  const length = body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) };
  response.writeHead(status, { ...headers, ...length });
  response.end(body);
});

process.on('SIGTERM', () => {
  server.close();
  server.closeAllConnections();
  pool.end();
});

await loadFunctions();
server.listen(Number(settings['server-port']), settings['server-host'], () => {
  process.stdout.write(`listening on ${server.address().port}\n`);
});
