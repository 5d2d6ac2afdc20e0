// A connection to the database, as the pool and the pipelines open it.
//
// We set search_path before anything else.  Its default begins with a schema of the
// role's own name, which any role that may create schemas can create.  If the server
// does not let us in, we close the connection; otherwise it would occupy a slot there
// until authentication times out.

import pg from 'pg';

const SET_UP = 'SET search_path = pg_catalog, pg_temp';

export class Session extends pg.Client {
  // Who waits for an answer is told when a connection breaks.  If nobody does, as between
  // the answer to SET_UP and the first query, an error without a listener would end the
  // process.
  constructor(options) {
    super(options);
    this.on('error', () => {});
  }

  async #open() {
    try {
      await super.connect();
      await this.query(SET_UP);
    } catch (error) {
      this.end();
      throw error;
    }
  }

  // With a callback, as the pool calls it, or without.
  connect(callback) {
    const opened = this.#open();

    return callback === undefined ? opened : void opened.then(() => callback(), callback);
  }
}
