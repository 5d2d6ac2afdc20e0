// Writes at a steady pace, and looks whether a revoked key is still accepted.
// Called by storm.
//
// storm.mjs revoke RATE SECONDS FIRST
//     revokes so many keys a second, in the order of their numbers from FIRST.
//     For each, one session has a transaction open in which it has verified
//     the key, and so has it in its cache, while another session revokes it.
//     When COMMIT has returned to that, the key is verified twice more: in the
//     open transaction, and in a new one.
// storm.mjs elsewhere RATE SECONDS FIRST
//     does the same verifications, but the write goes to a table of its own
//
// Prints how many were written, were accepted before, were accepted in the
// open transaction afterwards, and in a new one; then the writes a second.
// Exits with 1 unless all were written and accepted before, and those that were
// not revoked afterwards, too.

import pg from '../../gateway/node_modules/pg/lib/index.js';

const SESSIONS = 4;
const WRITES = {
  revoke: 'SELECT overten_revoke_key(org_id, key_id) FROM overten_auth.api_keys WHERE key_id = $1',
  elsewhere: 'INSERT INTO elsewhere (key_id) VALUES ($1)',
};

const [what, ...numbers] = process.argv.slice(2);
const [rate, seconds, first] = numbers.map(Number);
const total = rate * seconds;
const counts = { written: 0, before: 0, open: 0, fresh: 0 };

async function connect() {
  const client = new pg.Client();
  await client.connect();
  await client.query('SET overten_auth.record_use_without_preload = off');
  return client;
}

// Verify a key, and count it under a name if it is accepted.
async function verify(client, secret, count) {
  const result = await client.query({
    name: 'verify', text: 'SELECT key_id FROM overten_verify_key($1)', values: [secret],
  });
  counts[count] += result.rows.length;
}

async function write(writer, verifier, number) {
  const secret = `sk_live_000000000${1000000000000000000n + BigInt(number)}`;

  await verifier.query('BEGIN');
  await verify(verifier, secret, 'before');
  const written = await writer.query({
    name: 'write', text: WRITES[what], values: [`key_${String(number).padStart(20, '0')}`],
  });
  counts.written += written.rowCount;
  await verify(verifier, secret, 'open');
  await verifier.query('COMMIT');
  await verify(verifier, secret, 'fresh');
}

// One of the sessions: every SESSIONS-th key, each when its time has come.
async function run(session, start) {
  const [writer, verifier] = [await connect(), await connect()];

  for (let i = session; i < total; i += SESSIONS) {
    const wait = start + i * 1000 / rate - performance.now();
    if (wait > 0) await new Promise((resolve) => { setTimeout(resolve, wait); });
    await write(writer, verifier, first + i);
  }
  await Promise.all([writer.end(), verifier.end()]);
}

const start = performance.now() + 100;
await Promise.all(Array.from({ length: SESSIONS }, (_, session) => run(session, start)));
const took = Math.max(seconds, (performance.now() - start) / 1000);
console.log(counts.written, counts.before, counts.open, counts.fresh, (counts.written / took).toFixed(1));

const expected = { revoke: [counts.written, counts.before], elsewhere: Object.values(counts) };
if (!expected[what].every((count) => count === total)) {
  console.error(`storm.mjs ${what}: of ${total}`, counts);
  process.exitCode = 1;
}
