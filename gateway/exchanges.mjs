// The exchanges that are running, by connection.
//
// A client may send requests without waiting for the answers, which have to come in the
// order of the requests.  node sees to that for those that it has understood; a request
// that its parser refuses, and that is answered by hand, has to wait here for its turn.

export class Exchanges {
  #running = new Map();
  #refused = new WeakSet();

  // Begin an exchange, which is over when its response is closed.  "refused" becomes
  // true if the rest of the request turns out not to be understood: then the response
  // must not be written.
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

  // How many are running.
  get size() {
    return [...this.#running.values()].reduce((sum, all) => sum + all.length, 0);
  }

  // Call "answer" when what comes on a connection, and is not understood, is next; but
  // close the connection if it is the rest of a request that is being answered already.
  // For further pieces nothing happens.
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
        answer();
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
