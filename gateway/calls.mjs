// The calls to one server: how a call becomes a statement on a connection.

import pg from 'pg';

import { beforeSending, nameOf } from './errors.mjs';
import { callOf, FIND, notSetUp } from './extension.mjs';
import { openPipelines } from './pipeline.mjs';
import { openQueue } from './queue.mjs';
import { Session } from './session.mjs';

// A prepared statement does not exist, or one of its name exists already: the
// statement was sent to another session than the one in which it was prepared.
const OTHER_SESSION = new Set(['26000', '42P05']);

// The function is no longer where it was.
const MOVED = new Set(['42883', '3F000']);

// What each connection to a server has in common.
export function connectionOptions(server) {
  return {
    host: server.host,
    port: server.port,
    keepAlive: true,
    application_name: 'overten_auth gateway',
  };
}

// Open the connections to a server.  Problems are reported to the callback "report",
// each time, in a sentence or two.
export function openCalls(server, settings, { explain, explainFound, adviseOnFound }, report) {
  const options = {
    ...connectionOptions(server),
    connectionTimeoutMillis: settings.connectTimeout,
    query_timeout: settings.queryTimeout,
  };
  const pool = new pg.Pool({
    ...options,
    max: settings.poolSize,
    maxLifetimeSeconds: settings.connectionLife / 1000,
    Client: Session,
  });
  const queue = openQueue(settings.poolSize, settings.connectTimeout);
  const pipelines = settings.pipelines > 0
    ? openPipelines(settings.pipelines, options, settings.connectionLife) : undefined;
  let prepares = settings.prepare;
  let statements = 0;
  let statement;
  let pinging;

  // An idle connection that breaks leaves the pool on its own.  Without a listener the
  // error would end the process.
  pool.on('error', () => {});

  // A connection of the pool for one request.  After an error it is not used again,
  // because an answer may still be missing on it.
  async function queryInPool(query) {
    const client = await beforeSending(() => pool.connect());
    let failure;

    try {
      return await client.query(query);
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      client.release(failure);
    }
  }

  const inPool = {
    async query(query, request) {
      const leave = await beforeSending(() => queue.enter(request));

      try {
        return await queryInPool(query);
      } finally {
        leave();
      }
    },
  };

  // The calls, once we know which schema the functions are in.
  async function find() {
    const { rows } = await pool.query(FIND);
    const problem = explainFound(rows);

    if (problem !== undefined) {
      report(problem);
      throw notSetUp(problem);
    }
    report(adviseOnFound(rows));
    statements++;
    return (what) => ({
      name: `${what[0]}_${statements}`,
      text: callOf(rows[0].schema, what),
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
  async function run(what, values, request) {
    const road = request.quick && pipelines || inPool;
    const { name, text } = await beforeSending(() => call(what));
    const named = prepares;

    try {
      return await (named ? road : inPool).query({ name: named ? name : undefined, text, values }, request);
    } catch (error) {
      if (!named || !OTHER_SESSION.has(error.code)) {
        throw error;
      }
      if (prepares) {
        prepares = false;
        report('prepared statements do not last here, as behind a pooler that gives each ' +
          'transaction another session: going on without.  Set PREPARE=off');
      }
      return inPool.query({ text, values }, request);
    }
  }

  async function look() {
    try {
      const { rows } = await pool.query(FIND);
      const problem = explainFound(rows);

      report(problem ?? adviseOnFound(rows));
      return problem === undefined;
    } catch (error) {
      report(explain(error) ?? `the database cannot be used: ${nameOf(error)}`);
      return false;
    }
  }

  return {
    // Call a function for a request, which is described as queue.enter() takes it; returns
    // the rows.  Requests that are "quick" share connections.
    async ask(what, values, request) {
      try {
        const { rows } = await run(what, values, request);
        return rows;
      } catch (error) {
        if (MOVED.has(error.code)) {
          statement = undefined;
        }
        report(explain(error));
        throw error;
      }
    },

    // Does the server answer, and may our role call the function?  Does not reject.  All who
    // ask at the same time share one query, because these do not wait in the queue.
    ping() {
      pinging ??= look().finally(() => { pinging = undefined; });
      return pinging;
    },

    // What the pool is doing.
    pool() {
      const { totalCount, idleCount, waitingCount } = pool;

      return { size: settings.poolSize, used: totalCount - idleCount, idle: idleCount, waiting: queue.length + waitingCount };
    },

    async close() {
      await Promise.all([pool.end(), pipelines?.end()]);
    },
  };
}
