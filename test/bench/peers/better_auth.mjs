// better_auth.mjs: the API-key plugin of better-auth, in a database of its own.
//
// Its tables come from its own migrations, the first keys from its own API; the
// others are copies of such a row made in SQL, with another id and secret.  Each
// instance stands for one server process: a pool and, where it caches, a cache
// of its own.

import { createHash, webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';

// better-auth expects it; Node 18 has it, but not as a global.
globalThis.crypto ??= webcrypto;

const { betterAuth } = await import('better-auth');
const { getMigrations } = await import('better-auth/db/migration');
const { apiKey } = await import('@better-auth/api-key');

const BY_API = 1000;
const KEYS_A_USER = 100;
const AT_ONCE = 16;
const NO_RATE_LIMIT = { rateLimit: { enabled: false } };

// Of the keys made in SQL; the secret is 64 letters, as its own are.
const LETTERS = 'abcdefghij';
const copiedId = (i) => String(i).padStart(32, '0');
const copiedSecret = (i) => String(i).padStart(64, '0').replace(/\d/g, (digit) => LETTERS[digit]);

// What it stores of a secret.
const digest = (secret) => createHash('sha256').update(secret).digest('base64url');

function instance(pool, settings) {
	return betterAuth({
		baseURL: 'http://localhost',
		secret: 'a secret of 32 characters or more',
		database: pool,
		emailAndPassword: { enabled: true },
		logger: { disabled: true },
		telemetry: { enabled: false },
		plugins: [apiKey(settings)],
	});
}

async function signUp(auth) {
	const { headers, response } = await auth.api.signUpEmail({
		body: { email: 'bench@example.com', name: 'Bench', password: 'correct horse battery' },
		returnHeaders: true,
	});
	return { id: response.user.id, headers: new Headers({ cookie: headers.get('set-cookie').split(';')[0] }) };
}

async function createKeys(auth, userId, count) {
	const keys = [];
	async function create() {
		while (keys.length < count) {
			const key = {};
			keys.push(key);
			Object.assign(key, await auth.api.createApiKey({ body: { userId } }));
		}
	}
	await Promise.all(Array.from({ length: AT_ONCE }, create));
	return keys;
}

// Keys first..last as copies of a row, of users who need not exist.
async function copyKeys(pool, id, first, last) {
	await pool.query(`
		INSERT INTO apikey SELECT copy.*
		FROM apikey original
		CROSS JOIN (SELECT i, translate(lpad(i::text, 64, '0'), '0123456789', '${LETTERS}') AS secret
			FROM generate_series($2::int, $3::int) i ORDER BY hashint4(i)) new
		CROSS JOIN LATERAL jsonb_populate_record(original, jsonb_build_object(
			'id', lpad(i::text, 32, '0'),
			'key', rtrim(translate(encode(sha256(secret::bytea), 'base64'), '+/', '-_'), '='),
			'start', substr(secret, 1, 6),
			'referenceId', 'user ' || i / $4::int)) copy
		WHERE original.id = $1`, [id, first, last, KEYS_A_USER]);
}

// Fills an empty database.  Takes a function that makes a pool of connections.
export async function makeBetterAuth(makePool, count) {
	const pool = await makePool();
	const auth = instance(pool, NO_RATE_LIMIT);
	await (await getMigrations(auth.options)).runMigrations();
	const user = await signUp(auth);
	const made = await createKeys(auth, user.id, Math.min(count, BY_API));
	await copyKeys(pool, made[0].id, made.length + 1, count);
	await pool.query('VACUUM ANALYZE');

	const id = (i) => made[i - 1]?.id ?? copiedId(i);
	const secret = (i) => made[i - 1]?.key ?? copiedSecret(i);
	const verifier = (instance) => async (i) => {
		const answer = await instance.api.verifyApiKey({ body: { key: secret(i) } });
		return answer.valid ? answer.key.id : null;
	};

	// What is in a storage without a database: copies of a key made by the API,
	// and the list of each user's keys.
	async function fill(auth, storage) {
		const made = (await createKeys(auth, user.id, 1))[0];
		const hash = digest(made.key);
		const text = storage.get(`api-key:${hash}`);
		const lists = new Map();

		storage.clear();
		for (let i = 1; i <= count; i++) {
			const owner = `user ${Math.floor(i / KEYS_A_USER)}`;
			const copy = text.replace(made.id, id(i)).replace(hash, digest(secret(i))).replace(user.id, owner);
			storage.set(`api-key:${digest(secret(i))}`, copy);
			storage.set(`api-key:by-id:${id(i)}`, copy);
			lists.set(owner, [...lists.get(owner) ?? [], id(i)]);
		}
		lists.forEach((ids, owner) => storage.set(`api-key:by-ref:${owner}`, JSON.stringify(ids)));
	}

	async function server(settings, connection) {
		const storage = new Map();
		const pool = await makePool(connection);
		const auth = instance(pool, {
			...NO_RATE_LIMIT,
			...settings,
			customStorage: {
				get: async (name) => storage.get(name) ?? null,
				set: async (name, value) => { storage.set(name, value); },
				delete: async (name) => { storage.delete(name); },
			},
		});
		return { auth, pool, storage };
	}

	// A case as keys.mjs wants it, with a second server process to revoke from.
	async function makeCase(name, settings, connection) {
		const { auth, pool, storage } = await server(settings, connection);
		const other = (await server(settings, connection)).auth;

		if (settings.storage && !settings.fallbackToDatabase) await fill(auth, storage);
		return {
			name,
			pool,
			id,
			verify: verifier(auth),
			revoke: async (i) => {
				await other.api.updateApiKey({ body: { keyId: id(i), userId: user.id, enabled: false } });
			},
			remove: async (i) => {
				await other.api.deleteApiKey({ body: { keyId: id(i) }, headers: user.headers });
			},
		};
	}

	return {
		version: JSON.parse(readFileSync(new URL('./node_modules/better-auth/package.json', import.meta.url))).version,

		cases: [
			await makeCase('better-auth', {}),
			await makeCase('better-auth, cached',
				{ storage: 'secondary-storage', fallbackToDatabase: true }, { options: '-c synchronous_commit=off' }),
			await makeCase('better-auth without a database',
				{ storage: 'secondary-storage', deferUpdates: true }),
		],

		// How many verifications of a new key its defaults accept, at most limit.
		acceptedByDefault: async (limit) => {
			const strict = instance(pool, {});
			const { key } = (await createKeys(strict, user.id, 1))[0];
			for (let accepted = 0; accepted < limit; accepted++) {
				if (!(await strict.api.verifyApiKey({ body: { key } })).valid) return accepted;
			}
			return limit;
		},
	};
}
