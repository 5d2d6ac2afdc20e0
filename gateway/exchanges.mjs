// The running exchanges, by connection.
//
// A client may send requests without waiting for the answers, and the answers have to
// come in the order of the requests. node takes care of that for the requests that it
// can parse.  If its parser refuses a request, we answer by hand, and that answer has
// to wait here for its turn.

export class Exchanges {
  #running = new Map();
  #refused = new WeakSet();

  // Begin an exchange, which ends when its response is closed. "refused" becomes true
  // if node cannot parse the rest of the request; in that case nobody may write the
  // response.
  begin(request, response) {
    const { socket } = request;
    const exchange = { request, response, refused: false };
    const all = this.#running.get(socket) ?? [];

    all.push(exchange);
    this.#running.set(socket, all);
    response.on('close', () => {
      all.splice(all.indexOf(exchange), 1);
      if (all.length === 0) {
        this.#running.delete(socket);
      }
    });
    return exchange;
  }

  // Return how many exchanges are running.
  get size() {
    return [...this.#running.values()].reduce((sum, all) => sum + all.length, 0);
  }

  // If node cannot parse what comes on a connection, call "answer" when its turn has
  // come, with the request if it is the rest of one.  If that is being answered
  // already, close the connection instead.  Further calls for the connection do nothing.
  refuse(socket, answer) {
    if (this.#refused.has(socket)) {
      return;
    }
    this.#refused.add(socket);

    const all = this.#running.get(socket) ?? [];
    const last = all.findLast(({ request }) => request.complete);
    const broken = all.find(({ request }) => !request.complete);
    const next = () => {
      if (!socket.writable || broken?.response.headersSent) {
        socket.destroy();
      } else {
        answer(broken?.request);
      }
    };

    if (broken !== undefined) {
      broken.refused = true;
    }
    if (last === undefined) {
      next();
    } else {
      last.response.once('close', next);
    }
  }
}
