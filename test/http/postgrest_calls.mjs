// Which function PostgREST calls for a request, with what, and how it runs the call.

import { createRequire } from 'node:module';

import { connectionProblem, exception, problem, statementProblem } from './postgrest_errors.mjs';

const require = createRequire(new URL('../../gateway/package.json', import.meta.url));
const pg = require('pg');

// PostgREST refuses JSON that is nested deeply.  It was seen with 8,000 levels; where
// it begins is not known.
const MAX_DEPTH = 4000;

// Bytes as the text that they are in UTF-8, with a byte order mark if there is one;
// throws if they are none.
export function decode(bytes) {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}

// Throws at half of a surrogate pair, which no text in UTF-8 can hold, and beyond the
// depth.
function check(value, depth = 0) {
  if (typeof value === 'string') {
    encodeURIComponent(value);
  } else if (value !== null && typeof value === 'object') {
    if (depth === MAX_DEPTH) {
      throw new RangeError('nested too deeply');
    }
    for (const [key, member] of Object.entries(value)) {
      encodeURIComponent(key);
      check(member, depth + 1);
    }
  }
}

// The members of a body of JSON, by which a function is found, and what is passed on of
// the body: all of it, or [] for what is neither an object nor an array of objects.
function readJson(bytes) {
  if (bytes.length === 0) {
    return { keys: [], text: '' };
  }
  const text = decode(bytes);
  const value = JSON.parse(text);
  check(value);

  if (!Array.isArray(value)) {
    return value !== null && typeof value === 'object'
      ? { keys: Object.keys(value), text } : { keys: [], text: '[]' };
  }
  const [first, ...others] = value.map((element) => element !== null &&
    typeof element === 'object' && !Array.isArray(element) && Object.keys(element).sort().join());
  if (first === false || others.some((keys) => keys !== first)) {
    throw new TypeError('All object keys must match');
  }
  return { keys: first === undefined ? [] : Object.keys(value[0]), text };
}

// The payload of a POST, or the answer that refuses it.
function readPayload(version, type, bytes) {
  if (/^(text\/plain|text\/xml|application\/octet-stream)\b/.test(type)) {
    return { keys: [], raw: true };
  }
  if (!/^application\/json\b/.test(type)) {
    return { refusal: problem(version, 400, 'PGRST102', `Content-Type not acceptable: ${type}`) };
  }
  try {
    return readJson(bytes);
  } catch {
    return { refusal: problem(version, 400, 'PGRST102', 'Empty or invalid json') };
  }
}

function takesUnnamedJson({ types, names }) {
  return types.length === 1 && types[0] === 'json' && (names[0] ?? '') === '';
}

function takes({ names, required }, keys) {
  return keys.every((key) => names.includes(key)) &&
    names.slice(0, required).every((name) => keys.includes(name));
}

export class Calls {
  constructor(settings, version) {
    this.schema = settings['db-schemas'];
    this.role = settings['db-anon-role'];
    this.before = settings['db-pre-request'];
    this.version = version;
    this.pool = new pg.Pool({
      connectionString: settings['db-uri'],
      max: Number(settings['db-pool']),
      connectionTimeoutMillis: Number(settings['db-pool-acquisition-timeout']) * 1000,
      idleTimeoutMillis: 30_000,
      maxLifetimeSeconds: 1800,
    });
    // Neither an idle connection that breaks nor one that a request has may end the
    // process; the request is told.
    this.pool.on('error', () => {});
    this.pool.on('connect', (client) => client.on('error', () => {}));
  }

  // Read what PostgREST keeps of the database: the functions, and the settings of the
  // roles that it can become, which it sets in each transaction of theirs.
  async load() {
    const functions = await this.pool.query(
      `SELECT p.proname AS name, p.prorettype = 'void'::regtype AS void,
         p.provolatile = 'v' AS volatile, p.pronargs - p.pronargdefaults AS required,
         coalesce(p.proargnames, '{}') AS names,
         array(SELECT t::regtype::text FROM unnest(p.proargtypes) WITH ORDINALITY u (t, i) ORDER BY i) AS types
       FROM pg_proc p WHERE p.pronamespace = $1::regnamespace`, [this.schema]);
    const settings = await this.pool.query(
      `SELECT split_part(s, '=', 1) AS name, lower(substr(s, strpos(s, '=') + 1)) AS value
       FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid, unnest(r.rolconfig) s
       JOIN pg_settings p ON p.name = split_part(s, '=', 1) AND p.context = 'user'
       WHERE m.member = current_user::regrole AND r.rolname = $1`, [this.role]);
    this.functions = functions.rows;
    this.settings = settings.rows;
  }

  // The call that a request asks for, or the answer that refuses it.
  find(request, name, query, bytes) {
    const candidates = this.functions.filter((candidate) => candidate.name === name);
    const notFound = problem(this.version, 404, 'PGRST202',
      `Could not find the function ${this.schema}.${name} in the schema cache`);

    if (request.method === 'OPTIONS') {
      return candidates.length === 0 ? { refusal: notFound } : { info: candidates[0] };
    }
    const payload = request.method === 'POST'
      ? readPayload(this.version, request.headers['content-type'] ?? 'application/json', bytes)
      : { keys: [...query.keys()] };
    if (payload.refusal !== undefined) {
      return payload;
    }
    const named = candidates.find((candidate) => !payload.raw && takes(candidate, payload.keys) &&
      !takesUnnamedJson(candidate));
    if (named !== undefined) {
      const given = payload.text === undefined ? Object.fromEntries(query) : JSON.parse(payload.text || '{}');
      const names = payload.keys;
      return {
        found: named,
        sql: names.map((argument, i) => `"${argument}" := $${i + 1}`).join(', '),
        values: names.map((argument) => given[argument]),
      };
    }
    const unnamed = request.method === 'POST' && !payload.raw && candidates.find(takesUnnamedJson);
    return unnamed
      ? { found: unnamed, sql: '$1::json', values: [payload.text] } : { refusal: notFound };
  }

  // The settings of a transaction.  The headers are read here and not before: by then
  // the transaction is open, and PostgREST has sent the statement to be parsed, for
  // which the server takes a snapshot.
  async begin(client, request, path) {
    const reading = request.method === 'POST' ? 'READ WRITE' : 'READ ONLY';
    await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED ${reading}`);
    client.begun = true;

    const settings = [
      ['search_path', `"${this.schema}"`],
      ...this.settings.map(({ name, value }) => [name, value]),
      ['role', this.role],
      ['request.jwt.claims', JSON.stringify({ role: this.role })],
      ['request.method', request.method],
      ['request.path', path],
    ];
    await client.query('SELECT');
    const headers = {};
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      const [name, value] = request.rawHeaders.slice(i, i + 2)
        .map((bytes) => decode(Buffer.from(bytes, 'latin1')));
      headers[name.toLowerCase()] = value;
    }
    settings.push(['request.headers', JSON.stringify(headers)], ['request.cookies', '{}']);
    await client.query(
      `SELECT ${settings.map((_, i) => `set_config($${2 * i + 1}, $${2 * i + 2}, true)`).join(', ')}`,
      settings.flat());
    if (this.before !== undefined) {
      await client.query(`SELECT ${this.before}()`);
    }
  }

  async call(client, request, { found, sql, values }) {
    const body = request.method === 'HEAD'
      ? "''" : "coalesce(json_agg(_postgrest_t.pgrst_scalar)->0, 'null')::text";
    const { rows: [row] } = await client.query(
      `WITH pgrst_source AS (SELECT "${this.schema}"."${found.name}"(${sql}) AS pgrst_scalar)
       SELECT ${found.void ? "''" : body} AS body,
         nullif(current_setting('response.headers', true), '') AS headers,
         nullif(current_setting('response.status', true), '') AS status
       FROM (SELECT pgrst_source.* FROM pgrst_source) _postgrest_t`, values);
    await client.query('COMMIT');
    return row;
  }

  // Run a call in a transaction of its own: what it returned, or the answer to what
  // went wrong.
  async run(request, path, call) {
    let client;
    let broken;

    try {
      client = await this.pool.connect();
    } catch (error) {
      return { refusal: connectionProblem(this.version, error) };
    }
    try {
      client.begun = false;
      await this.begin(client, request, path);
      return { row: await this.call(client, request, call) };
    } catch (error) {
      // A header that is no text is nothing that PostgREST has thought of: the
      // connection goes back as it is, inside of the transaction.
      if (error.code === 'ERR_ENCODING_INVALID_ENCODED_DATA') {
        return { refusal: exception };
      }
      const lost = !(error instanceof pg.DatabaseError) || error.code.startsWith('57P');
      broken = lost ? error : undefined;
      // Nor does it roll back what it could not begin.
      if (!lost && client.begun) {
        await client.query('ROLLBACK');
      }
      return { refusal: statementProblem(this.version, error) };
    } finally {
      client.release(broken);
    }
  }
}
