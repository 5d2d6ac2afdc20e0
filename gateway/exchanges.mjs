// The running exchanges, by connection.
//
// A client may send requests without waiting for the answers, and the answers have to
// come in the order of the requests. node takes care of that for the requests that it
// can parse.  If its parser refuses a request, we answer by hand, and that answer has
// to wait here for its turn.

export class Exchanges {
  #running = new Map();
  #refused = new WeakSet();

  // Begin an exchange.  It ends when its response or its connection is closed; then the
  // promise "ended" resolves.  "refused" becomes true if node cannot parse the rest of the
  // request; in that case nobody may write the response.  "byHand" becomes true if we have
  // answered it in another way.
  begin(request, response) {
    const { socket } = request;
    const exchange = { request, response, refused: false, byHand: false };
    const all = this.#running.get(socket) ?? new Set();

    all.add(exchange);
    this.#running.set(socket, all);
    exchange.ended = new Promise((resolve) => {
      exchange.end = () => {
        all.delete(exchange);
        if (all.size === 0) {
          this.#running.delete(socket);
        }
        resolve();
      };
    });
    response.on('close', exchange.end);
    return exchange;
  }

  // End the exchanges of a connection that is closed.  node itself closes only the response
  // whose turn it is.
  endAll(socket) {
    for (const { response, end } of this.#running.get(socket) ?? []) {
      response.destroy();
      end();
    }
  }

  // Return how many exchanges are running.
  get size() {
    return [...this.#running.values()].reduce((sum, all) => sum + all.size, 0);
  }

  // If node cannot parse what comes on a connection, call "answer" when its turn has
  // come, with the request if it is the rest of one.  If that is being answered
  // already, close the connection instead.  Further calls for the connection do nothing.
  refuse(socket, answer) {
    if (this.#refused.has(socket)) {
      return;
    }
    this.#refused.add(socket);

    const all = [...this.#running.get(socket) ?? []];
    const last = all.findLast(({ request }) => request.complete);
    const broken = all.find(({ request }) => !request.complete);
    const next = () => {
      if (!socket.writable || broken?.response.headersSent) {
        socket.destroy();
        return;
      }
      if (broken !== undefined) {
        broken.byHand = true;
      }
      answer(broken?.request);
    };

    if (broken !== undefined) {
      broken.refused = true;
    }
    if (last === undefined) {
      next();
    } else {
      last.ended.then(next);
    }
  }
}
