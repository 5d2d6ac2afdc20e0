// Connections to the database that carry many requests at once.
//
// A pool gives a connection to one request at a time, so each costs a write, a read
// and two changes of process of its own; under load that is most of what it costs.
// Here the requests that have come together are written together, and the answers
// come back in their order.  Each is still a statement and a transaction of its own.
//
// What waits on a connection waits for all before it.  That suits requests that
// only read, and little, for they wait for nobody; others go through the pool.

import { Session } from './session.mjs';

// Open "size" connections, each when it is first needed, and each to be used for "life"
// milliseconds.
export function openPipelines(size, options, life) {
  const lanes = new Array(size);
  let turn = 0;

  // A connection that breaks fails what it carries, and is made anew by the next
  // request.
  function open(number) {
    const client = new Session({ ...options, pipeline: true });
    const lane = { client, corked: false, closed: false, end: performance.now() + life };
    const leave = () => {
      lane.closed = true;
      if (lanes[number] === lane) {
        lanes[number] = undefined;
      }
    };

    lane.ready = client.connect();
    lane.leave = leave;
    client.on('error', leave);
    client.on('end', leave);
    lane.ready.catch(leave);
    lanes[number] = lane;
    return lane;
  }

  // The next connection that a request can use.  One that is too old is left, and
  // closed when it has answered what it carries.
  async function choose() {
    for (;;) {
      turn = (turn + 1) % size;
      const lane = lanes[turn] ?? open(turn);
      await lane.ready;
      if (performance.now() > lane.end && !lane.closed) {
        lane.leave();
        lane.client.end();
      }
      if (!lane.closed) {
        return lane;
      }
    }
  }

  // Hold back what is written until all that has arrived has been looked at.
  function gather(lane) {
    const { stream } = lane.client.connection;

    if (!lane.corked) {
      lane.corked = true;
      stream.cork();
      setImmediate(() => {
        lane.corked = false;
        stream.uncork();
      });
    }
  }

  return {
    async query(query) {
      const lane = await choose();
      gather(lane);
      return lane.client.query(query);
    },

    async end() {
      await Promise.all(lanes.map((lane) => lane?.client.end()));
    },
  };
}
