// Whose requests go to the primary for a while.
//
// A standby knows late what was written.  So those who have written something read
// from the primary for a moment, to see what they have done.  So do those whom the
// standbys have refused and the primary has answered, because only it counts quotas: a
// second question for each request would cost more, and each refusal is a line in the
// log of a server.
//
// We keep digests of credentials, and not many.

import crypto from 'node:crypto';

const WHILE_MS = 5000;
const MOST = 10_000;

function digestOf(credential) {
  return crypto.createHash('sha256').update(credential).digest('base64');
}

export function openFollowers() {
  const until = new Map();
  let written = -Infinity;

  function add(credential) {
    if (credential === undefined) {
      return;
    }
    if (until.size >= MOST) {
      until.delete(until.keys().next().value);
    }
    until.set(digestOf(credential), performance.now() + WHILE_MS);
  }

  return {
    add,

    has(credential) {
      if (credential === undefined || until.size === 0) {
        return false;
      }
      const digest = digestOf(credential);
      const end = until.get(digest);

      if (end < performance.now()) {
        until.delete(digest);
      }
      return end >= performance.now();
    },

    // Something was written with a credential.
    noteWrite(credential) {
      written = performance.now();
      add(credential);
    },

    wroteLately() {
      return performance.now() < written + WHILE_MS;
    },
  };
}
