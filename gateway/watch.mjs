// Watches one server: whether it answers, whether it is the primary, and whether it
// verifies.
//
// We ask on a connection of our own, so that many requests cannot make a server look
// dead.  A server that does not answer is taken out, and asked again after longer and
// longer times, or as soon as a request finds no other server.
//
// A standby that is beyond its bound, or may not verify, refuses each key.  We see
// that by a key that cannot exist, and so spare requests the detour.

import { connectionOptions } from './calls.mjs';
import { isLostConnection, nameOf } from './errors.mjs';
import { callOf, FIND, HANDLE, notSetUp } from './extension.mjs';
import { Session } from './session.mjs';

// A server is not asked again sooner than this, and one that has failed not later, in
// milliseconds.
const LEAST_MS = 100;
const MOST_MS = 10_000;

const ROLE = `
  SELECT pg_catalog.pg_is_in_recovery() AS standby,
    pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off' AS writes,
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
      pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)
    END AS timeline`;

// A key that nobody has, of the shape that this server knows.
const NO_KEY = `
  SELECT pg_catalog.json_build_object('authorization', pg_catalog.concat('Bearer ',
    coalesce(pg_catalog.substring(pg_catalog.current_setting('overten_auth.key_prefixes', true), '[a-z0-9_]+_'), 'sk_live_'),
    pg_catalog.repeat('0', 28))) AS headers`;

function pause(ms) {
  return new Promise((resolve) => { setTimeout(resolve, Math.max(ms, 0)).unref(); });
}

// Watch a server.  When its role is another one, we tell so, and call "changed".  The
// role is undefined while the server is taken out; it has
//     standby   is it in recovery?
//     writes    can a session write?
//     timeline  of a primary: promotions give higher ones
//     verifies  does it verify keys at the moment?
export function watch(server, settings, diagnosis, { report, tell, changed }) {
  const watched = { server, role: undefined };
  const waiting = new Set();    // what rejects reads that are running there
  let session;
  let asked = -Infinity;
  let asking;
  let failures = 0;
  let timer;
  let closed = false;

  function connect() {
    const opened = new Session({
      ...connectionOptions(server),
      connectionTimeoutMillis: settings.checkInterval,
      query_timeout: settings.checkInterval,
    });

    opened.on('end', () => {
      if (session?.opened === opened) {
        session = undefined;
        check();
      }
    });
    session = { opened, ready: opened.connect(), end: performance.now() + settings.connectionLife };
    return session;
  }

  function disconnect() {
    const left = session?.opened;

    session = undefined;
    // It may not answer a polite goodbye.
    left?.connection.stream.destroy();
  }

  async function ask() {
    if (session !== undefined && performance.now() > session.end) {
      disconnect();
    }
    const { opened, ready } = session ?? connect();
    await ready;
    const found = (await opened.query(FIND)).rows;
    const problem = diagnosis.explainFound(found);

    if (problem !== undefined) {
      throw notSetUp(problem);
    }
    report(diagnosis.adviseOnFound(found));
    const [role] = (await opened.query(ROLE)).rows;
    const [{ headers }] = (await opened.query(NO_KEY)).rows;
    const [{ status }] = (await opened.query(callOf(found[0].schema, HANDLE),
      ['GET', '/api/v1/verify', JSON.stringify(headers), null])).rows;

    return { ...role, verifies: status === 401 };
  }

  function describe(role) {
    if (!role.standby) {
      return `${server.name} is a primary, on timeline ${parseInt(role.timeline, 16)}`;
    }
    return role.verifies ? `${server.name} is a standby that verifies`
      : `${server.name} is a standby that does not verify at the moment; see standby_problem of ` +
        'overten_status() there';
  }

  function become(role) {
    const before = watched.role;

    watched.role = role;
    if (before === undefined || ['standby', 'writes', 'timeline', 'verifies'].some((part) => before[part] !== role[part])) {
      tell(describe(role));
      changed();
    }
  }

  function takeOut(error) {
    const was = watched.role;

    watched.role = undefined;
    if (was !== undefined) {
      tell(`${server.name} is taken out: ${nameOf(error)}`);
      changed();
    }
    for (const reject of waiting) {
      reject(new Error('the server was taken out'));
    }
    waiting.clear();
  }

  async function probe() {
    await pause(asked + LEAST_MS - performance.now());
    if (closed) {
      return;
    }
    clearTimeout(timer);
    asked = performance.now();
    try {
      become(await ask());
      failures = 0;
    } catch (error) {
      disconnect();
      report(diagnosis.explain(error) ?? `${server.name} cannot be used: ${nameOf(error)}`);
      takeOut(error);
      failures++;
    }
    asked = performance.now();
    if (!closed) {
      const interval = settings.checkInterval;
      const longer = Math.min(interval * 2 ** Math.max(failures - 1, 0), MOST_MS);

      timer = setTimeout(check, Math.max(interval, longer)).unref();
    }
  }

  // Ask the server now, or soon if we have just done so.  Does not reject.
  function check() {
    asking ??= probe().finally(() => { asking = undefined; });
    return asking;
  }

  return Object.assign(watched, {
    check,

    // A request has met an error there.
    failed(error) {
      if (isLostConnection(error)) {
        takeOut(error);
      }
      check();
    },

    // Wait for a read that can be given up when the server is taken out.
    async reading(answer) {
      let reject;

      try {
        return await Promise.race([answer, new Promise((_, no) => {
          reject = no;
          waiting.add(reject);
        })]);
      } finally {
        waiting.delete(reject);
      }
    },

    close() {
      closed = true;
      clearTimeout(timer);
      disconnect();
    },
  });
}
