// A connection to the database, as the pool and the pipelines open it.
//
// Its search_path is set before anything else: the default one begins with a schema of
// the role's own name, which whoever may create schemas can make.  One that the server
// does not let in is closed, for otherwise it takes a place there until the time for
// authentication is over.

import pg from 'pg';

const SET_UP = 'SET search_path = pg_catalog, pg_temp';

export class Session extends pg.Client {
  async #open() {
    try {
      await super.connect();
      await this.query(SET_UP);
    } catch (error) {
      this.end();
      throw error;
    }
  }

  // With a callback, as the pool has it, or without.
  connect(callback) {
    const opened = this.#open();

    return callback === undefined ? opened : void opened.then(() => callback(), callback);
  }
}
