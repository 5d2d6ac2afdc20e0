// How node-postgres takes a verification.
//
// node_postgres.mjs GOOD BAD
//     Verifies both secrets in each way there is to ask for it, as the
//     environment says where.  Prints a line for each: the way, the rows of the
//     good secret and those of the bad one.

import { createHash } from 'node:crypto';

import pg from 'pg';

const [good, bad] = process.argv.slice(2);
const digest = (secret) => createHash('sha256').update(secret).digest();

const ways = {
  unnamed: (secret) => ({ text: 'SELECT * FROM overten_verify_key($1)', values: [secret] }),
  prepared: (secret) => ({ name: 'verify', text: 'SELECT * FROM overten_verify_key($1)', values: [secret] }),
  arrays: (secret) => ({ rowMode: 'array', text: 'SELECT * FROM overten_verify_key($1)', values: [secret] }),
  literal: (secret) => ({ text: `SELECT * FROM overten_verify_key('${secret}')` }),
  digest: (secret) => ({ text: 'SELECT * FROM overten_verify_key_digest($1)', values: [digest(secret)] }),
  authenticate: (secret) => ({ text: 'SELECT * FROM overten_authenticate($1)', values: [secret] }),
  row: (secret) => ({ text: 'SELECT overten_verify_key($1)', values: [secret] }),
  columns: (secret) => ({ text: 'SELECT (overten_verify_key($1)).*', values: [secret] }),
};

// What a program asks of the result: is there a row, and only one?
async function rowsOf(client, query) {
  const { rows, rowCount } = await client.query(query);

  if (rows.length !== rowCount || (rows.length > 0) !== Boolean(rows[0])) {
    throw new Error(`${query.text}: ${rows.length} rows, ${rowCount} counted`);
  }
  return rows.length;
}

const pool = new pg.Pool();
const client = await pool.connect();

for (const [way, query] of Object.entries(ways)) {
  // Twice, so that a prepared statement and a cached key are used again.
  for (let round = 0; round < 2; round++) {
    console.log(way, await rowsOf(client, query(good)), await rowsOf(client, query(bad)));
  }
}
// NULL is no key, either.
console.log('null', await rowsOf(pool, ways.unnamed(good)), await rowsOf(pool, ways.unnamed(null)));
client.release();
await pool.end();
