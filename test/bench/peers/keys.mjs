// keys.mjs: what verifying an API key costs a Node.js process.
//
// All cases have a pool of the same size, the same number of calls in flight,
// and the same keys asked for, in one process and on one server.  They take
// turns in each round; the ratios are medians of the rounds' own ratios, as the
// machine is not the same from one round to the next.  Beside the rate stands
// the CPU time of a verification, here and in the backends of the case's pool,
// which a busy machine changes less.  An answer that names another key than the
// one asked for ends the run.
//
// Called by run, which makes the databases "keys" and "better_auth", and passes
// its settings in the environment.

import { appendFileSync, readFileSync } from 'node:fs';
import pg from 'pg';

import { makeBetterAuth } from './better_auth.mjs';

const setting = (name) => Number(process.env[name]);
const [rounds, seconds, keys] = ['ROUNDS', 'SECONDS_EACH', 'KEYS'].map(setting);
const [poolSize, inFlight] = ['POOL', 'IN_FLIGHT'].map(setting);
const ranges = process.env.RANGES.split(' ').map(Number);

const say = (text) => process.stderr.write(`${text}\n`);

const AFTER_REVOKING = 100;
const WARM_UP_MS = 1000;

// By overten_status().
const RECORDED = {
	'shared memory': 'uses counted',
	table: 'last use once a minute',
	off: 'not recording',
};

// Numbers in 0..1, the same in each run (mulberry32).
function generator(seed) {
	let state = seed;
	return () => {
		state = (state + 0x6d2b79f5) | 0;
		let t = Math.imul(state ^ (state >>> 15), 1 | state);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
	};
}

const random = generator(setting('SEED'));

const pools = [];

// All its connections are opened now, and known by their processes.
async function makePool(settings) {
	const pool = new pg.Pool({ max: poolSize, idleTimeoutMillis: 0, ...settings });
	const clients = await Promise.all(Array.from({ length: poolSize }, () => pool.connect()));
	pool.backends = clients.map((client) => client.processID);
	clients.forEach((client) => client.release());
	pools.push(pool);
	return pool;
}

const secret = (i) => `sk_live_000000000${1000000000000000000n + BigInt(i)}`;
const id = (i) => `key_${String(i).padStart(20, '0')}`;

// A case that is one statement, prepared by each connection: it takes a secret,
// and returns in key_id what idOf says.
async function statement(name, text, revoke, idOf = id) {
	const pool = await makePool({ database: 'keys' });
	return {
		name,
		pool,
		id: idOf,
		verify: async (i) => {
			const { rows } = await pool.query({ name: 'verify', text, values: [secret(i)] });
			return rows[0]?.key_id ?? null;
		},
		revoke,
	};
}

// The first two are what the others are compared with.
async function makeCases(betterAuth) {
	const other = await makePool({ database: 'keys' });
	const { rows: [{ usage_mode: mode }] } = await other.query('SELECT usage_mode FROM overten_status()');
	const revoke = (i) => other.query(
		'SELECT overten_revoke_key(org_id, key_id) FROM overten_auth.api_keys WHERE key_id = $1', [id(i)]);
	const revokeByHand = (i) => other.query(
		'UPDATE by_hand.api_keys SET revoked_at = now() WHERE key_id = $1', [id(i)]);

	return [
		await statement('`SELECT 1`', 'SELECT $1::text AS key_id', null, secret),
		await statement('hand-written join', process.env.JOIN, revoke),
		await statement('PL/pgSQL, last use once a minute', 'SELECT * FROM by_hand.verify_minute($1)', revokeByHand),
		await statement('PL/pgSQL, last use each time', 'SELECT * FROM by_hand.verify_each($1)', revokeByHand),
		await statement(`\`overten_verify_key\`, ${RECORDED[mode]}`, 'SELECT * FROM overten_verify_key($1)', revoke),
		...betterAuth.cases,
	];
}

async function verify(subject, i) {
	const answer = await subject.verify(i);
	if (answer !== subject.id(i)) throw new Error(`${subject.name} answers ${answer} for ${subject.id(i)}`);
}

// How many of so many verifications are accepted after the key has ended; all
// connections have had it.
async function acceptedAfter(subject, i, end) {
	let accepted = 0;

	await Promise.all(Array.from({ length: inFlight }, () => verify(subject, i)));
	await end(i);
	for (let n = 0; n < AFTER_REVOKING; n += poolSize) {
		const answers = await Promise.all(Array.from({ length: poolSize }, () => subject.verify(i)));
		accepted += answers.filter((answer) => answer !== null).length;
	}
	return accepted;
}

// CPU time of processes, in ms.
const cpuOf = (processes) => processes.reduce(
	(sum, pid) => sum + Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]), 0) / 1e6;

async function measure(subject, range, milliseconds) {
	const before = { own: process.cpuUsage(), backends: cpuOf(subject.pool.backends) };
	const start = performance.now();
	let count = 0;

	await Promise.all(Array.from({ length: inFlight }, async () => {
		while (performance.now() - start < milliseconds) {
			await verify(subject, 1 + Math.floor(random() * range));
			count++;
		}
	}));
	const elapsed = performance.now() - start;
	const own = process.cpuUsage(before.own);
	return {
		rate: count / elapsed * 1000,
		node: (own.user + own.system) / count,
		backends: (cpuOf(subject.pool.backends) - before.backends) * 1000 / count,
	};
}

function median(values) {
	const sorted = [...values].sort((a, b) => a - b);
	return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.floor(sorted.length / 2)]) / 2;
}

// All cases in turn, each round beginning with the next one.
async function compare(cases, range) {
	const results = new Map(cases.map((subject) => [subject, []]));

	for (let round = 0; round < rounds; round++) {
		say(`  ${keysAsked(range)}: round ${round + 1} of ${rounds}`);
		for (let turn = 0; turn < cases.length; turn++) {
			const subject = cases[(round + turn) % cases.length];
			results.get(subject).push(await measure(subject, range, seconds * 1000));
		}
	}
	return results;
}

const commas = (number) => Math.round(number).toLocaleString('en');

function keysAsked(range) {
	return range === 1 ? 'one hot key' : `any of ${commas(range)} keys`;
}

function printTable([head, ...rows]) {
	const line = (row) => `| ${row.join(' | ')} |`;

	console.log([line(head), `|---|${'---:|'.repeat(head.length - 1)}`, ...rows.map(line)].join('\n'));
}

function bar(panel, label, ratio) {
	if (!process.env.BENCH_CHART) return;
	appendFileSync(process.env.BENCH_CHART, `${panel}\t${label.replaceAll('`', '')}\t${ratio}\n`);
}

function report(range, results, [constant, join]) {
	const of = (subject, value) => median(results.get(subject).map(value));
	const against = (subject, base, value) => median(results.get(subject).map((result, round) =>
		value(result) / value(results.get(base)[round]))).toFixed(2);
	const rate = (result) => result.rate;
	const perCpu = (result) => 1 / (result.node + result.backends);

	console.log(`\n### ${keysAsked(range)}\n`);
	printTable([
		['case', 'a second', 'of `SELECT 1`', 'of the join', 'CPU µs, Node.js', 'CPU µs, backends', 'by CPU, of the join'],
		...[...results.keys()].map((subject) => [
			subject.name,
			commas(of(subject, rate)),
			against(subject, constant, rate),
			against(subject, join, rate),
			commas(of(subject, (result) => result.node)),
			commas(of(subject, (result) => result.backends)),
			against(subject, join, perCpu),
		]),
	]);
	for (const subject of results.keys()) {
		if (subject !== constant && subject !== join) {
			bar(`From Node.js, ${keysAsked(range)}, of the hand-written join`, subject.name, against(subject, join, rate));
		}
	}
}

// Each case with keys of its own, as a revoked one is of no use to the others.
async function reportRevocations(cases) {
	let next = 2;
	const tried = async (subject, end) => {
		if (!end) return '';
		try {
			return String(await acceptedAfter(subject, next++, end));
		} catch (error) {
			if (error.body?.code !== 'KEY_NOT_FOUND') throw error;
			return 'not known there';
		}
	};
	const rows = [];

	for (const subject of cases) {
		if (subject.revoke) {
			rows.push([subject.name, await tried(subject, subject.revoke), await tried(subject, subject.remove)]);
		}
	}
	console.log(`\nVerifications accepted of the ${AFTER_REVOKING} that began, ${poolSize} at a time, after another process had
ended the key:\n`);
	printTable([['case', 'revoked or disabled', 'deleted'], ...rows]);
}

say('  Making the keys of better-auth');
const betterAuth = await makeBetterAuth((settings) => makePool({ database: 'better_auth', ...settings }), keys);
const cases = await makeCases(betterAuth);
const results = [];
for (const subject of cases) await measure(subject, keys, WARM_UP_MS);
for (const range of ranges) results.push([range, await compare(cases, range)]);

console.log(`
## API keys from Node.js

One process of Node.js ${process.versions.node}, ${inFlight} calls in flight on ${poolSize} connections of pg, ${commas(keys)} keys, drawn with seed ${setting('SEED')}.
Rounds: ${rounds}, with ${seconds} s for each case, in turn; medians, of the ratios too. By CPU is verifications a second of CPU time,
of Node.js and backends together.

better-auth ${betterAuth.version} has its tables in the same server, and rate limiting off. Cached is with its secondary storage, a Map of
the process, before the database, and with synchronous_commit off; without a database is with all keys in that Map alone, and
updates deferred.`);
for (const [range, result] of results) report(range, result, cases);
await reportRevocations(cases);
const accepted = await betterAuth.acceptedByDefault(AFTER_REVOKING);
console.log(`\nWith its rate limiting as it is by default, better-auth accepts ${accepted} of ${AFTER_REVOKING} verifications of a new key.`);

await Promise.all(pools.map((pool) => pool.end()));
