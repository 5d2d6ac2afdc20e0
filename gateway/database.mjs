// The SQL call that each request becomes, and the meaning of its errors.
//
// We call functions in the extension's own schema, with the types of their
// arguments.  Otherwise a role that may create schemas could put a function of the
// same name into a schema that search_path finds first, and would get every
// credential.  Sessions also set search_path, but a pooler may run a statement under
// another one.

import pg from 'pg';

import { answerOf } from './answers.mjs';
import { explain, explainFound } from './diagnosis.mjs';
import { openPipelines } from './pipeline.mjs';
import { Session } from './session.mjs';

// The functions that we call, and the types of their arguments.
const HANDLE = ['overten_handle_request', 'text', 'text', 'json', 'bytea'];
const AUTHORIZE = ['overten_authorize_request', 'text', 'json'];

// Find the extension, and what our role may do there. "function" is NULL if there is
// no function with these arguments.
const FIND = `
  SELECT n.nspname AS schema, p.oid AS function,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS usage,
    pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AS execute
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
  LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace OPERATOR(pg_catalog.=) n.oid
    AND p.proname OPERATOR(pg_catalog.=) '${HANDLE[0]}'
    AND pg_catalog.oidvectortypes(p.proargtypes) OPERATOR(pg_catalog.=) '${HANDLE.slice(1).join(', ')}'
  WHERE e.extname OPERATOR(pg_catalog.=) 'overten_auth'`;

// Conditions that pass on their own, by class of SQLSTATE or in full: lost
// connections; insufficient resources; shutdown, startup and timeouts; conflicts
// between transactions; failed logins and missing databases, which are not the
// request's fault; locks that we did not get; errors of a standby that may not do
// this; and an unknown prepared statement.
const PASSING_CLASSES = new Set(['08', '53', '57', '40', '28']);
const PASSING = new Set(['3D000', '55P03', '55000', '25006', '26000', '42P05']);

// A prepared statement does not exist, or one of its name exists already: the
// statement was sent to another session than the one in which it was prepared.
const OTHER_SESSION = new Set(['26000', '42P05']);

// The function is no longer where it was.
const MOVED = new Set(['42883', '3F000']);

// Requests that may take long, so that no other request should have to wait behind
// them.
const REPORT = /\/(usage|rotation|limits|audit-log)(\?|$)/;

// Write JSON in ASCII, because the database's encoding may lack characters that a
// client puts into a header.
function asciiJson(value) {
  return JSON.stringify(value).replace(/[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// Does an error of a query mean that the database is away?  Otherwise something is
// wrong with the database or with the gateway.
export function isPassing(error) {
  if (error instanceof pg.DatabaseError) {
    return PASSING.has(error.code) || PASSING_CLASSES.has(String(error.code).slice(0, 2));
  }
  // node's own socket errors, and the timeouts of node-postgres, are plain Errors; a
  // mistake in a program is not.
  return isPlain(error);
}

export function isPlain(error) {
  return error?.constructor === Error || error instanceof AggregateError;
}

// What we may log about an error.  A message could quote what a client sent or what
// the database said, so for most errors we log only the code or the kind.
export function nameOf(error) {
  return error?.code ?? (isPlain(error) ? error.message : error?.name ?? typeof error);
}

// Open the connections to the database.  Problems are reported to the callback
// "report", each time, in a sentence or two.
export function openDatabase(settings, report) {
  const options = {
    connectionTimeoutMillis: settings.connectTimeout,
    query_timeout: settings.queryTimeout,
    keepAlive: true,
    application_name: 'overten_auth gateway',
  };
  const pool = new pg.Pool({
    ...options,
    max: settings.poolSize,
    maxLifetimeSeconds: settings.connectionLife / 1000,
    Client: Session,
  });
  const pipelines = settings.pipelines > 0
    ? openPipelines(settings.pipelines, options, settings.connectionLife) : undefined;
  let prepares = settings.prepare;
  let statements = 0;
  let statement;

  // An idle connection that breaks leaves the pool on its own.  Without a listener
  // its error would end the process.
  pool.on('error', () => {});

  // The calls, once we know which schema the functions are in.
  async function find() {
    const { rows } = await pool.query(FIND);
    const problem = explainFound(rows);

    if (problem !== undefined) {
      report(problem);
      throw Object.assign(new TypeError(problem), { code: 'not set up' });
    }
    statements++;
    const schema = pg.escapeIdentifier(rows[0].schema);
    return ([name, ...types]) => ({
      name: `${name}_${statements}`,
      text: `SELECT status, headers, body FROM ${schema}.${name}(${
        types.map((type, i) => `$${i + 1}::pg_catalog.${type}`).join(', ')})`,
    });
  }

  async function call(what) {
    statement ??= find().catch((error) => {
      statement = undefined;
      throw error;
    });
    return (await statement)(what);
  }

  // Without prepared statements there are no pipelines, either.
  async function run(road, what, values) {
    const { name, text } = await call(what);
    const named = prepares;

    try {
      return await (named ? road : pool).query({ name: named ? name : undefined, text, values });
    } catch (error) {
      if (!named || !OTHER_SESSION.has(error.code)) {
        throw error;
      }
      if (prepares) {
        prepares = false;
        report('prepared statements do not last here, as behind a pooler that gives each ' +
          'transaction another session: going on without.  Set PREPARE=off');
      }
      return pool.query({ text, values });
    }
  }

  async function ask(road, what, values) {
    try {
      const { rows } = await run(road, what, values);
      return answerOf(rows);
    } catch (error) {
      if (MOVED.has(error.code)) {
        statement = undefined;
      }
      report(explain(error));
      throw error;
    }
  }

  return {
    // Handle one HTTP exchange: return the status, headers and body from the
    // database.
    exchange(method, path, headers, body) {
      const reads = method === 'GET' || method === 'HEAD';
      const road = reads && !REPORT.test(path) && pipelines || pool;

      return ask(road, HANDLE, [method, path, asciiJson(headers), body]);
    },

    // May a request go on?  Likewise.
    authorize(query, headers) {
      return ask(pipelines || pool, AUTHORIZE, [query, asciiJson(headers)]);
    },

    // Does the database answer, and may our role call the function?  Does not reject.
    async ping() {
      try {
        const { rows } = await pool.query(FIND);
        const problem = explainFound(rows);

        report(problem);
        return problem === undefined;
      } catch (error) {
        report(explain(error) ?? `the database cannot be used: ${nameOf(error)}`);
        return false;
      }
    },

    // What the pool is doing.
    pool() {
      const { totalCount, idleCount, waitingCount } = pool;

      return { size: settings.poolSize, used: totalCount - idleCount, idle: idleCount, waiting: waitingCount };
    },

    async close() {
      await Promise.all([pool.end(), pipelines?.end()]);
    },
  };
}
