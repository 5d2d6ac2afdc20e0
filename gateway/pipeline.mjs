// Connections to the database that carry many requests at once.
//
// A pool gives a connection to one request at a time.  So each request costs a write,
// a read and two process switches of its own; under load that is most of its cost.
// Here we write the requests that have arrived together in one write, and the answers
// come back in the same order.  Each request is still a statement and a transaction
// of its own.
//
// A request on a connection waits for all requests before it.  That suits what services
// ask before each of their own requests, because it reads only a little and waits for
// nobody.  A request of a person may take long, or wait for a lock, so these use the pool.

import { beforeSending } from './errors.mjs';
import { Session } from './session.mjs';

// Open up to "size" connections, each when it is first needed.  We use each of them
// for "life" milliseconds.
export function openPipelines(size, options, life) {
  const lanes = new Array(size);
  let turn = 0;

  // If a connection breaks, the requests on it fail, and the next request opens a new
  // one.
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

  // Return the next connection that a request can use.  If a connection is too old,
  // we stop using it, and close it when all requests on it are answered.
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

  // Hold back what is written until we have handled everything that has arrived.
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
      const lane = await beforeSending(choose);
      gather(lane);
      return lane.client.query(query);
    },

    async end() {
      await Promise.all(lanes.map((lane) => lane?.client.end()));
    },
  };
}
