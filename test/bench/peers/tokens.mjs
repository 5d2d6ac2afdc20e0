// tokens.mjs NAME DIRECTORY SECONDS
//
// Print how many Firebase ID tokens jose or firebase-admin, whichever is named,
// verifies in a second of CPU time, with the key at hand and 16 in flight, as in
// a busy server.  The directory has "token", "pem" and "certificate".  Called by
// ../firebase.

import { webcrypto } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';

// jose expects it; Node 18 has it, but not as a global.
globalThis.crypto ??= webcrypto;

const IN_FLIGHT = 16;

const [name, directory, seconds] = process.argv.slice(2);
const file = (part) => readFileSync(path.join(directory, part), 'utf8');
const token = file('token');
const audience = 'demo-project';
const issuer = `https://securetoken.google.com/${audience}`;
const { user_id: uid } = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'));

// Each returns a function that returns the uid of the token.
const verifiers = {
	jose: async () => {
		const { importSPKI, jwtVerify } = await import('jose');
		const key = await importSPKI(file('pem'), 'RS256');
		const rules = { algorithms: ['RS256'], audience, issuer };

		return async () => (await jwtVerify(token, key, rules)).payload.sub;
	},
	'firebase-admin': async () => {
		const { default: admin } = await import('firebase-admin');
		const { default: verifier } = await import('./node_modules/firebase-admin/lib/auth/token-verifier.js');
		const { default: jwt } = await import('./node_modules/firebase-admin/lib/utils/jwt.js');
		const certificates = { ['a'.repeat(40)]: file('certificate') };
		const idTokens = verifier.createIdTokenVerifier(admin.initializeApp({ projectId: audience }));

		// All but the fetching of certificates is its own.
		idTokens.signatureVerifier = new jwt.PublicKeySignatureVerifier({ fetchPublicKeys: async () => certificates });
		return async () => (await idTokens.verifyJWT(token, false)).sub;
	},
};

const verify = await verifiers[name]();

async function batch() {
	const uids = await Promise.all(Array.from({ length: IN_FLIGHT }, verify));
	if (!uids.every((answer) => answer === uid)) throw new Error(`${name} names another user`);
}

for (let i = 0; i < 20; i++) await batch();

const start = process.cpuUsage();
let count = 0;
let used = 0;
while (used < seconds * 1e6) {
	await batch();
	count += IN_FLIGHT;
	const { user, system } = process.cpuUsage(start);
	used = user + system;
}
console.log(Math.round(count / used * 1e6));
