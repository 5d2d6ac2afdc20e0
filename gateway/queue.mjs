// The queue for the connections of a pool: who gets the next one.
//
// A pool by itself serves whoever comes first.  So one customer with many slow requests
// would hold all connections, and nobody could revoke a key.  Here
//
//   - at most half of the connections are busy with requests that read;
//   - at most a quarter with what one person reads, and a quarter with what one person
//     writes, and the same for each org;
//   - what writes goes first, and credentials take turns.
//
// A request for which there is a connection, but not for its person or org, waits, and
// others pass it.
//
// We take the person from the token and the org from the path, although nobody has
// checked them yet.  A request that names others can stand in their way, but not for
// long, because it is refused as soon as it has a connection.  Requests without a token
// count as those of one person.
//
// Without pipelines, verifications come here, too.  At most half of the connections are
// busy with them, beside those that read for people, and they go after what writes.  No
// bounds hold for a person or an org, because they are quick and a service can have many
// for one customer.

function part(size, divisor) {
  return Math.max(Math.floor(size / divisor), 1);
}

function isReached(bound) {
  return bound.running >= bound.most;
}

// Open the queue for "size" connections, in which a request waits for at most "patience"
// milliseconds.
export function openQueue(size, patience) {
  const all = { most: size, running: 0 };
  const half = () => ({ most: part(size, 2), running: 0 });
  const own = new Map();    // the bounds of persons and orgs that have requests here
  // The lines that wait, by what their requests do, and the bounds that these share.  All
  // requests in a line have the same bounds, so that we need not look behind the first.
  const writers = { lines: new Map(), bounds: [all] };
  const verifiers = { lines: new Map(), bounds: [all, half()] };
  const readers = { lines: new Map(), bounds: [all, half()] };
  let length = 0;

  function ownBound(name) {
    const bound = own.get(name) ?? { name, most: part(size, 4), running: 0, requests: 0 };

    bound.requests++;
    own.set(name, bound);
    return bound;
  }

  function ownBounds({ quick, reads, person, org }) {
    const kind = reads ? 'reads' : 'writes';

    if (quick) {
      return [];
    }
    return [`${kind}, person: ${person}`, ...(org === undefined ? [] : [`${kind}, org: ${org}`])].map(ownBound);
  }

  // Forget those bounds of a request that no other has.
  function forget(request) {
    for (const bound of request.own) {
      bound.requests--;
      if (bound.requests === 0) {
        own.delete(bound.name);
      }
    }
  }

  // Returns what ends the request.
  function start(request) {
    request.bounds.forEach((bound) => { bound.running++; });
    return () => {
      request.bounds.forEach((bound) => { bound.running--; });
      forget(request);
      startWaiting();
    };
  }

  // A line whose turn it was goes to the end, where this loop meets it again.
  function startWaiting() {
    for (const { lines, bounds } of [writers, verifiers, readers]) {
      for (const [name, line] of lines) {
        const [request] = line;

        if (bounds.some(isReached)) {
          break;
        }
        if (!request.bounds.some(isReached)) {
          leave(request);
          if (lines.delete(name)) {
            lines.set(name, line);
          }
          request.resolve(start(request));
        }
      }
    }
  }

  function leave(request) {
    const { lines, name } = request;
    const line = lines.get(name);

    clearTimeout(request.timer);
    line.splice(line.indexOf(request), 1);
    if (line.length === 0) {
      lines.delete(name);
    }
    length--;
  }

  function wait(request) {
    const { lines, name } = request;

    if (!lines.has(name)) {
      lines.set(name, []);
    }
    lines.get(name).push(request);
    length++;
    return new Promise((resolve, reject) => {
      request.resolve = resolve;
      request.timer = setTimeout(() => {
        const isOwn = request.own.some(isReached);

        leave(request);
        forget(request);
        reject(new Error(isOwn ? 'timeout behind requests of the same customer'
          : 'timeout exceeded when waiting for a connection'));
      }, patience);
    });
  }

  return {
    // Wait until a request may have a connection.  Returns the function to call when it
    // is answered, or a promise of it.  The request has
    //     quick       is it a verification?
    //     reads       does it only read?
    //     credential  what it came with
    //     person      whom that names
    //     org         which org its path names
    enter(what) {
      const { quick, reads, credential, org } = what;
      const { lines, bounds } = quick ? verifiers : reads ? readers : writers;
      const request = { name: `${credential}\n${org}`, lines, own: ownBounds(what) };

      request.bounds = [...bounds, ...request.own];
      return request.lines.has(request.name) || request.bounds.some(isReached) ? wait(request) : start(request);
    },

    // How many requests wait.
    get length() {
      return length;
    },
  };
}
