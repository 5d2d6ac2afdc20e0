// tokens.mjs PROJECT NUMBER
//
// Print a JWK set with a new key, then so many Firebase ID tokens for different
// people, good for an hour: a line each.

import crypto from 'node:crypto';

const [project, number] = process.argv.slice(2);
const { privateKey, publicKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
const kid = 'a'.repeat(40);
const now = Math.floor(Date.now() / 1000);
const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');

console.log(JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' }] }));
for (let i = 0; i < number; i++) {
  const uid = String(i).padStart(28, 'u');
  const signed = [{ alg: 'RS256', kid, typ: 'JWT' }, {
    iss: `https://securetoken.google.com/${project}`,
    aud: project,
    auth_time: now - 60,
    user_id: uid,
    sub: uid,
    iat: now - 60,
    exp: now + 3600,
    email: `${uid}@example.com`,
    email_verified: true,
    firebase: { identities: { email: [`${uid}@example.com`] }, sign_in_provider: 'password' },
  }].map(encode).join('.');
  console.log(`${signed}.${crypto.sign('sha256', signed, privateKey).toString('base64url')}`);
}
