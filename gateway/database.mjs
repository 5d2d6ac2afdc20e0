// The SQL call that each request becomes, to the one server that there is or to one
// of several.

import { answerOf } from './answers.mjs';
import { openCalls } from './calls.mjs';
import { openDiagnosis } from './diagnosis.mjs';
import { AUTHORIZE, HANDLE } from './extension.mjs';
import { customerOf } from './request.mjs';
import { COUNT, openRoutes, READ, WRITE } from './routes.mjs';

// What services ask before each of their own requests, as they ask /authorize.
const VERIFY = /^\/api\/v1\/verify(\?|$)/;

// Write JSON in ASCII, because the database's encoding may lack characters that a
// client puts into a header.
function asciiJson(value) {
  return JSON.stringify(value).replace(/[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// The road to a single server, with the functions of openRoutes().
function openSingle(settings, report) {
  const [server] = settings.topology.servers;
  const calls = openCalls(server, settings, openDiagnosis(server), report);

  return {
    send: (kind, credential, call) => call(calls),

    async state() {
      const well = await calls.ping();

      return { reads: well, writes: well };
    },

    pools: () => [calls.pool()],
    close: () => calls.close(),
  };
}

// Open the connections to the database.  Problems are reported to the callback
// "report", each time, in a sentence or two; and to "tell" what becomes of a server.
export function openDatabase(settings, report, tell) {
  const { servers } = settings.topology;
  const routes = (settings.topology.single ? openSingle : openRoutes)(settings, report, tell);

  function send(kind, request, what, values, seen) {
    return routes.send(kind, request.credential,
      async (calls) => answerOf(await calls.ask(what, values, request)), seen);
  }

  return {
    // Handle one HTTP exchange: return the status, headers and body from the
    // database.  With several servers, "seen" gets the name of the one that answers,
    // and what others have said.
    exchange(method, path, headers, body, seen) {
      const reads = method === 'GET' || method === 'HEAD';
      const request = { quick: reads && VERIFY.test(path), reads, ...customerOf(headers, path) };

      return send(reads ? READ : WRITE, request, HANDLE, [method, path, asciiJson(headers), body], seen);
    },

    // May a request go on?  Likewise.
    authorize(query, headers, seen) {
      const request = { quick: true, reads: true, ...customerOf(headers) };

      return send(COUNT, request, AUTHORIZE, [query, asciiJson(headers)], seen);
    },

    // What can be answered at the moment?  Does not reject.
    state: () => routes.state(),

    // What the pool of each server is doing, with the server's name.
    pool: () => routes.pools().map((pool, i) => ({ server: servers[i].name, ...pool })),

    close: () => routes.close(),
  };
}
