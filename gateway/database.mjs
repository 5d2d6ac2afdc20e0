// The one SQL call that each request becomes, and what its errors mean.

import pg from 'pg';

import { openPipelines } from './pipeline.mjs';

// Conditions that pass by themselves, by class of SQLSTATE or in full: lost
// connections; no resources; shutdown and start-up, timeouts; locks not had;
// conflicts between transactions; and what a standby says that may not do it.
const PASSING_CLASSES = new Set(['08', '53', '57', '40']);
const PASSING = new Set(['55P03', '55000', '25006']);

// What may take long to answer, so that nothing should have to wait behind it.
const REPORT = /\/usage(\?|$)/;

// JSON in ASCII: the database's encoding need not have the characters that a
// client puts into a header.
function asciiJson(value) {
  return JSON.stringify(value).replace(/[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// Whether an error of a query says that the database is away, rather than that
// something is wrong with it or with the gateway.
export function isPassing(error) {
  if (error instanceof pg.DatabaseError) {
    return PASSING.has(error.code) || PASSING_CLASSES.has(error.code.slice(0, 2));
  }
  // node's own errors of sockets, and the timeouts of node-postgres, are plain
  // Errors; a mistake in a program is not.
  return !(error instanceof TypeError || error instanceof RangeError);
}

// What may be logged of an error.  A message of the database could quote what
// a client sent, so only its code is told.
export function nameOf(error) {
  if (error instanceof pg.DatabaseError) {
    return error.code;
  }
  return error.code ?? error.message;
}

export function openDatabase(settings) {
  const options = {
    connectionTimeoutMillis: settings.connectTimeout,
    query_timeout: settings.queryTimeout,
    keepAlive: true,
    application_name: 'overten_auth gateway',
  };
  const pool = new pg.Pool({ ...options, max: settings.poolSize });
  const pipelines = settings.pipelines > 0
    ? openPipelines(settings.pipelines, options) : undefined;
  const name = settings.prepare ? 'overten_handle_request' : undefined;

  // An idle connection that breaks has left the pool by itself; without a
  // listener its error would end the process.
  pool.on('error', () => {});

  return {
    // One HTTP exchange: status, headers and body as the database says.
    async exchange(method, path, headers, body) {
      const reads = method === 'GET' || method === 'HEAD';
      const road = reads && !REPORT.test(path) && pipelines || pool;
      const { rows } = await road.query({
        name,
        text: 'SELECT status, headers, body FROM overten_handle_request($1, $2, $3, $4::bytea)',
        values: [method, path, asciiJson(headers), body],
      });
      return rows[0];
    },

    // Whether the database answers, and this role may ask it.
    async ping() {
      const { rows } = await pool.query(`SELECT has_function_privilege(
        'overten_handle_request(text, text, json, bytea)', 'EXECUTE') AS allowed`);
      return rows[0].allowed;
    },

    async close() {
      await Promise.all([pool.end(), pipelines?.end()]);
    },
  };
}
