// Which server a request is sent to, and whether it may be sent to another one.
//
// What writes goes to the primary.  What reads goes to any server that may read, one
// after the other until one answers; the primary is the last if the others refuse.
//
//	                   answer 503, 55000    not sent     sent, and no answer
//	GET and HEAD       the next server      the next     the next
//	/authorize         the next server      the next     503: it may have counted
//	all else (writes)  as it is             the primary  503: it may have written
//
// A server refuses with 503 or 55000 before it counts anything.  That is so because it
// may not verify, or because only the primary counts the quotas of the key.
//
// Two servers can say that they are the primary, after a failover that has not ended the
// old one.  We take the one on the highest timeline that we have ever seen, and ask
// nothing of the other, whose keys may have been revoked since.

import { isPassing, isTimeout, isUnsent, nameOf } from './errors.mjs';
import { openFollowers } from './followers.mjs';
import { openCalls } from './calls.mjs';
import { openDiagnosis } from './diagnosis.mjs';
import { watch } from './watch.mjs';

// A standby refuses each statement that would write.
const READ_ONLY = '25006';

// A server has refused before it did anything.
function isRefusal({ code }) {
  return code === '55000';
}

// The kinds of requests.  "mayGoOn" says whether another server may be asked after an
// error.  A query that takes too long would take too long there, too.
export const READ = {
  reads: true,
  mayGoOn: (error) => isPassing(error) && (isUnsent(error) || !isTimeout(error)),
};
export const COUNT = {
  reads: true,
  mayGoOn: (error) => isPassing(error) && (isUnsent(error) || isRefusal(error)),
};
export const WRITE = {
  reads: false,
  mayGoOn: (error) => isPassing(error) && !isTimeout(error) &&
    (isUnsent(error) || error.code === READ_ONLY),
};

export function openRoutes(settings, report, tell) {
  const { servers, accepts, prefersStandby, inTurn } = settings.topology;
  const followers = openFollowers();
  let turn = 0;
  let highest = '';

  const all = servers.map((server) => {
    const diagnosis = openDiagnosis(server);
    const watched = watch(server, settings, diagnosis, { report, tell, changed: review });

    return Object.assign(watched, { calls: openCalls(server, settings, diagnosis, report) });
  });

  // The servers that can be asked anything.
  function usable() {
    return all.filter(({ role }) => role !== undefined && accepts(role) &&
      (role.standby || role.timeline === highest));
  }

  function primary() {
    return usable().find(({ role }) => !role.standby && role.writes);
  }

  // The role of a server has changed.
  function review() {
    const primaries = all.filter(({ role }) => role !== undefined && !role.standby);

    for (const { role } of primaries) {
      highest = role.timeline > highest ? role.timeline : highest;
    }
    for (const { role, server } of primaries) {
      if (role.timeline < highest) {
        report(`${server.name} says that it is the primary, but another server was promoted ` +
          'after it.  Nothing is asked of it: end it, and make it a standby of the new primary');
      }
    }
    if (primaries.filter(({ role }) => role.timeline === highest).length > 1) {
      report('two servers say that they are the primary, on the same timeline.  ' +
        'The first in PGHOST is asked: end the wrong one');
    }
  }

  // In which order to read from a server; the lowest number first.
  function rank({ role }, primaryFirst) {
    if (primaryFirst && !role.standby) {
      return -1;
    }
    if (!role.verifies) {
      return 2;
    }
    return prefersStandby && !role.standby ? 1 : 0;
  }

  // The next server to read from; undefined if there is none.
  function next(tried, primaryFirst) {
    const left = usable().filter((watched) => !tried.has(watched));
    const best = Math.min(...left.map((watched) => rank(watched, primaryFirst)));
    const equal = left.filter((watched) => rank(watched, primaryFirst) === best);

    return equal[inTurn ? turn++ % equal.length : 0];
  }

  // Look at all servers, until there is what we look for.
  async function look(find) {
    const checks = all.map((watched) => watched.check());

    await new Promise((resolve) => {
      checks.forEach((check) => check.then(() => find() && resolve()));
      Promise.all(checks).then(resolve);
    });
    return find();
  }

  function note(seen, watched, problem) {
    (seen.passed ??= []).push(`${watched.server.name} ${problem}`);
  }

  async function read(kind, credential, call, seen) {
    const tried = new Set();
    const unreached = new Set();    // of these, the request has not come to
    let primaryFirst = followers.has(credential);
    let looked = false;
    let refused = false;
    let answer;
    let failure;

    for (;;) {
      const watched = next(tried, primaryFirst);

      if (watched === undefined) {
        if (looked || answer !== undefined) {
          break;
        }
        looked = true;
        unreached.forEach((each) => tried.delete(each));
        await look(() => next(tried));
        continue;
      }
      tried.add(watched);
      seen.server = watched.server.name;
      try {
        const running = call(watched.calls);
        const { standby } = watched.role;
        answer = await (kind === READ ? watched.reading(running) : running);
        if (!standby) {
          if (refused) {
            followers.add(credential);
          }
          return answer;
        }
        if (answer.status === 401 && followers.wroteLately()) {
          // A standby may not know yet what we have just written.
          primaryFirst = true;
        } else if (answer.status !== 503) {
          return answer;
        } else {
          refused = true;
          watched.check();
        }
        note(seen, watched, answer.status);
      } catch (error) {
        failure = error;
        note(seen, watched, nameOf(error));
        if (isUnsent(error)) {
          unreached.add(watched);
        }
        if (isRefusal(error)) {
          refused = true;
          watched.check();
        } else {
          watched.failed(error);
        }
        if (!kind.mayGoOn(error)) {
          break;
        }
      }
    }
    if (answer === undefined) {
      throw failure ?? new Error('no server can be asked');
    }
    return answer;
  }

  async function write(credential, call, seen) {
    let failure;

    for (const attempt of [1, 2]) {
      const watched = attempt === 1 ? primary() ?? await look(primary) : await look(primary);

      if (watched === undefined) {
        break;
      }
      seen.server = watched.server.name;
      try {
        const answer = await call(watched.calls);
        if (answer.status < 300) {
          followers.noteWrite(credential);
        }
        return answer;
      } catch (error) {
        failure = error;
        note(seen, watched, nameOf(error));
        watched.failed(error);
        if (!WRITE.mayGoOn(error)) {
          break;
        }
      }
    }
    throw failure ?? new Error('no primary can be asked');
  }

  return {
    // Send a request of a kind.  "call" gets the calls to a server, and returns what
    // it answers.  What happened is noted in "seen".
    send(kind, credential, call, seen) {
      return kind.reads ? read(kind, credential, call, seen) : write(credential, call, seen);
    },

    // Can anything be answered, and can anything be written?  Does not reject.
    async state() {
      const reads = () => usable().some(({ role }) => role.verifies);

      return { reads: reads() || await look(reads), writes: primary() !== undefined };
    },

    // What the pools are doing, one for each server.
    pools: () => all.map(({ calls }) => calls.pool()),

    async close() {
      all.forEach((watched) => watched.close());
      await Promise.all(all.map(({ calls }) => calls.close()));
    },
  };
}
