// Asks firebase-admin and this extension about the same tokens.
//
// firebase-admin fetches its keys from Google by itself; its httpAgent option
// leads it to a server of ours, by TLS with a certificate of ours, and nothing
// in it is changed.

'use strict';

const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const https = require('node:https');
const path = require('node:path');
const tls = require('node:tls');
const admin = require('firebase-admin');

const scratch = process.env.SCRATCH;
const file = (name) => fs.readFileSync(path.join(scratch, name), 'utf8');
const keys = { 'key-1': file('key-1.key'), 'key-2': file('key-2.key') };
const certificates = JSON.stringify({ 'key-1': file('key-1.pem'), 'key-2': file('key-2.pem') });
const project = 'demo-project';
const now = Math.floor(Date.now() / 1000);

const b64 = (value) =>
	Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

function token(claims, header = {}, key = keys['key-1']) {
	const signed = `${b64({ alg: 'RS256', kid: 'key-1', typ: 'JWT', ...header })}.${b64(claims)}`;
	return `${signed}.${crypto.sign('RSA-SHA256', Buffer.from(signed), key).toString('base64url')}`;
}

function claims(change = {}) {
	return {
		iss: `https://securetoken.google.com/${project}`,
		aud: project,
		auth_time: now - 100,
		user_id: 'Zq3gk8fM2nXv0aBcDeFgHiJkLmN2',
		sub: 'Zq3gk8fM2nXv0aBcDeFgHiJkLmN2',
		iat: now - 100,
		exp: now + 3500,
		email: 'jane@example.com',
		email_verified: true,
		firebase: { identities: { email: ['jane@example.com'] }, sign_in_provider: 'password' },
		...change,
	};
}

const provider = (name, identities, more = {}) =>
	claims({ firebase: { identities, sign_in_provider: name, ...more } });

// Tokens that both must accept.
const accepted = {
	password: token(claims()),
	'second key': token(claims(), { kid: 'key-2' }, keys['key-2']),
	'no typ': token(claims(), { typ: undefined }),
	'names in other scripts': token(claims({ name: 'Янe 日本 😀 "\\/' })),
	'custom claims': token(claims({ admin: true, roles: ['a', 'b'], nested: { deep: [1, 2.5, null] } })),
	'uid of 128': token(claims({ sub: 'u'.repeat(128) })),
	'uid of 1': token(claims({ sub: 'u' })),
	'uid beyond ASCII': token(claims({ sub: 'é日' })),
	'unknown header': token(claims(), { foo: 'bar' }),
	'1000 bytes of claims': token(claims({ pad: 'x'.repeat(1000) })),
	'no auth_time': token(claims({ auth_time: undefined })),
	'nbf': token(claims({ nbf: now - 100 })),
	'fractions': token(claims({ iat: now - 100.5 })),
	anonymous: token(provider('anonymous', {})),
	phone: token(provider('phone', { phone: ['+15555550100'] })),
	'google.com': token(provider('google.com', { 'google.com': ['1'] })),
	'facebook.com': token(provider('facebook.com', { 'facebook.com': ['1'] })),
	'apple.com': token(provider('apple.com', { 'apple.com': ['1'] })),
	'github.com': token(provider('github.com', { 'github.com': ['1'] })),
	'saml.x': token(provider('saml.x', { 'saml.x': ['1'] }, { sign_in_attributes: { a: 'b' } })),
	'oidc.x': token(provider('oidc.x', { 'oidc.x': ['1'] })),
	custom: token(provider('custom', {})),
	tenant: token(provider('password', {}, { tenant: 't-1' })),
};

// Tokens that both must refuse.
const refused = {
	expired: token(claims({ exp: now - 10 })),
	'other aud': token(claims({ aud: 'other' })),
	'other iss': token(claims({ iss: 'https://securetoken.google.com/other' })),
	'list of aud': token(claims({ aud: [project] })),
	'no sub': token(claims({ sub: undefined })),
	'empty sub': token(claims({ sub: '' })),
	'sub of 129': token(claims({ sub: 'u'.repeat(129) })),
	'no kid': token(claims(), { kid: undefined }),
	'unknown kid': token(claims(), { kid: 'x' }),
	'other key': token(claims(), {}, keys['key-2']),
	RS512: token(claims(), { alg: 'RS512' }),
	none: `${b64({ alg: 'none' })}.${b64(claims())}.`,
	'session cookie': token(claims({ iss: `https://session.firebase.google.com/${project}` })),
	nbf: token(claims({ nbf: now + 1000 })),
	'bad signature': `${token(claims()).slice(0, -10)}AAAAAAAAAA`,
};

function askPostgres(tokens, document) {
	const sql = `
		SET client_min_messages = error;
		SELECT overten_load_signing_keys($d$${document}$d$) \\g /dev/null
		CREATE FUNCTION pg_temp.ask(token text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE answer record;
		BEGIN
			SELECT * INTO answer FROM overten_verify_firebase_jwt(token);
			RETURN json_build_object('uid', answer.uid, 'claims', answer.claims)::text;
		EXCEPTION WHEN OTHERS THEN
			RETURN json_build_object('error', SQLSTATE)::text;
		END $$;
		${tokens.map((t) => `SELECT pg_temp.ask('${t}');`).join('\n')}`;
	return execFileSync('psql', ['-XAtq', '-v', 'ON_ERROR_STOP=1'], { input: sql, encoding: 'utf8' })
		.trim().split('\n').map((line) => JSON.parse(line));
}

const sorted = (value) =>
	Array.isArray(value) ? value.map(sorted) :
	value && typeof value === 'object'
		? Object.fromEntries(Object.keys(value).sort().map((k) => [k, sorted(value[k])]))
		: value;

async function main() {
	const server = https.createServer({ key: file('tls.key'), cert: file('tls.pem') }, (request, response) => {
		response.setHeader('Cache-Control', 'public, max-age=3600');
		response.setHeader('Content-Type', 'application/json');
		response.end(certificates);
	});
	await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

	const httpAgent = new https.Agent();
	httpAgent.createConnection = () => tls.connect({
		host: '127.0.0.1', port: server.address().port,
		servername: 'www.googleapis.com', ca: file('tls.pem'),
	});
	const auth = admin.initializeApp({ projectId: project, httpAgent }).auth();

	const names = [...Object.keys(accepted), ...Object.keys(refused)];
	const tokens = [...Object.values(accepted), ...Object.values(refused)];
	const ours = askPostgres(tokens, certificates);
	let disagreements = 0;

	for (let i = 0; i < names.length; i++) {
		const expected = i < Object.keys(accepted).length;
		const theirs = await auth.verifyIdToken(tokens[i]).then((t) => t, (error) => ({ error }));
		let agree = expected === !theirs.error && expected === !ours[i].error;
		if (agree && expected) {
			const { uid, ...rest } = theirs;
			agree = uid === ours[i].uid &&
				JSON.stringify(sorted(rest)) === JSON.stringify(sorted(ours[i].claims));
		}
		if (!agree) {
			disagreements++;
			console.log(`${names[i]}: firebase-admin ${theirs.error ? theirs.error.code : 'accepts'}, ` +
				`overten_auth ${ours[i].error || 'accepts'}, ${expected ? 'good' : 'bad'} token`);
		}
	}
	console.log(`${names.length} tokens, ${disagreements} disagreements`);
	server.close();
	process.exit(disagreements ? 1 : 0);
}

main();
