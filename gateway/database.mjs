// The one SQL call that each request becomes, and what its errors mean.
//
// The function is called in the extension's own schema, with the types of its
// arguments: whoever may create schemas could put another of that name into one that
// search_path finds first, and would get every credential.  Sessions set that, too, but
// a pooler may give a statement another one.

import pg from 'pg';

import { answerOf } from './answers.mjs';
import { explain, explainFound } from './diagnosis.mjs';
import { openPipelines } from './pipeline.mjs';
import { Session } from './session.mjs';

// The types of the function's arguments.
const ARGUMENTS = ['text', 'text', 'json', 'bytea'];

// Where the extension is, and what this role may do there; "function" is NULL if there
// is none with these arguments.
const FIND = `
  SELECT n.nspname AS schema, p.oid AS function,
    pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS usage,
    pg_catalog.has_function_privilege(p.oid, 'EXECUTE') AS execute
  FROM pg_catalog.pg_extension e
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
  LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace OPERATOR(pg_catalog.=) n.oid
    AND p.proname OPERATOR(pg_catalog.=) 'overten_handle_request'
    AND pg_catalog.oidvectortypes(p.proargtypes) OPERATOR(pg_catalog.=) '${ARGUMENTS.join(', ')}'
  WHERE e.extname OPERATOR(pg_catalog.=) 'overten_auth'`;

// Conditions that pass by themselves, by class of SQLSTATE or in full: lost
// connections; no resources; shutdown and start-up, timeouts; conflicts between
// transactions; no way in, or no such database, which says nothing of the request;
// locks not had; what a standby says that may not do it; and a prepared statement that
// is not known after all.
const PASSING_CLASSES = new Set(['08', '53', '57', '40', '28']);
const PASSING = new Set(['3D000', '55P03', '55000', '25006', '26000', '42P05']);

// A prepared statement is not known, or one of its name is known already: the
// statement has been sent to another session than the one that it was prepared in.
const OTHER_SESSION = new Set(['26000', '42P05']);

// The function is not where it was.
const MOVED = new Set(['42883', '3F000']);

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
    return PASSING.has(error.code) || PASSING_CLASSES.has(String(error.code).slice(0, 2));
  }
  // node's own errors of sockets, and the timeouts of node-postgres, are plain
  // Errors; a mistake in a program is not.
  return isPlain(error);
}

function isPlain(error) {
  return error?.constructor === Error || error instanceof AggregateError;
}

// What may be logged of an error.  A message could quote what a client sent or the
// database said, so of most only the code or the kind is told.
export function nameOf(error) {
  return error?.code ?? (isPlain(error) ? error.message : error?.name ?? typeof error);
}

// Open the way to the database.  What is wrong with it is told to the callback
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

  // An idle connection that breaks has left the pool by itself; without a
  // listener its error would end the process.
  pool.on('error', () => {});

  // The call, once it is known in which schema the function is.
  async function find() {
    const { rows } = await pool.query(FIND);
    const problem = explainFound(rows);

    if (problem !== undefined) {
      report(problem);
      throw Object.assign(new TypeError(problem), { code: 'not set up' });
    }
    statements++;
    const schema = pg.escapeIdentifier(rows[0].schema);
    return {
      name: `overten_handle_request_${statements}`,
      text: `SELECT status, headers, body FROM ${schema}.overten_handle_request(${
        ARGUMENTS.map((type, i) => `$${i + 1}::pg_catalog.${type}`).join(', ')})`,
    };
  }

  function call() {
    statement ??= find().catch((error) => {
      statement = undefined;
      throw error;
    });
    return statement;
  }

  // Without prepared statements there are no pipelines, either.
  async function run(road, values) {
    const { name, text } = await call();
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

  return {
    // One HTTP exchange: status, headers and body as the database says.
    async exchange(method, path, headers, body) {
      const reads = method === 'GET' || method === 'HEAD';
      const road = reads && !REPORT.test(path) && pipelines || pool;

      try {
        const { rows } = await run(road, [method, path, asciiJson(headers), body]);
        return answerOf(rows);
      } catch (error) {
        if (MOVED.has(error.code)) {
          statement = undefined;
        }
        report(explain(error));
        throw error;
      }
    },

    // Whether the database answers, and this role may ask it.  Does not reject.
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

    async close() {
      await Promise.all([pool.end(), pipelines?.end()]);
    },
  };
}
