// Measures how many tokens jose and firebase-admin verify in a second of CPU
// time, with the key at hand: lines of name and number.  Arguments: a directory
// with "token", "pem" and "certificate", and seconds.

'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { createPublicKey } = require('node:crypto');
const jose = require('jose');
const { PublicKeySignatureVerifier } = require('./node_modules/firebase-admin/lib/utils/jwt.js');
const verifier = require('./node_modules/firebase-admin/lib/auth/token-verifier.js');

const [directory, seconds] = process.argv.slice(2);
const file = (name) => fs.readFileSync(path.join(directory, name), 'utf8');
const token = file('token');
const issuer = 'https://securetoken.google.com/demo-project';

async function measure(name, verify) {
	for (let i = 0; i < 200; i++) await verify();
	const start = process.cpuUsage();
	let count = 0;
	let used = 0;
	while (used < seconds * 1e6) {
		for (let i = 0; i < 100; i++) await verify();
		count += 100;
		const usage = process.cpuUsage(start);
		used = usage.user + usage.system;
	}
	console.log(name, count / used * 1e6);
}

async function main() {
	const key = createPublicKey(file('pem'));
	await measure('jose', () => jose.jwtVerify(token, key, { algorithms: ['RS256'], audience: 'demo-project', issuer }));

	const admin = require('firebase-admin');
	const app = admin.initializeApp({ projectId: 'demo-project' });
	const idTokens = verifier.createIdTokenVerifier(app);
	idTokens.signatureVerifier = new PublicKeySignatureVerifier({
		fetchPublicKeys: async () => ({ ['a'.repeat(40)]: file.certificate ??= file('certificate') }),
	});
	await measure('firebase-admin', () => idTokens.verifyJWT(token, false));
}

main();
