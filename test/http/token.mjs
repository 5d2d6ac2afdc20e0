// Signing keys and tokens of Firebase's form, for tests and demonstrations.
//
// token.mjs new DIRECTORY
//     make an RSA key; DIRECTORY gets key.pem and keys.json, a JWK set for
//     overten_load_signing_keys
// token.mjs sign DIRECTORY PROJECT UID [CLAIM=JSON ...]
//     print an ID token for UID, with claims replaced, or removed by "CLAIM="

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

const KEY_ID = 'made-here';

function makeKeys(directory) {
  const { privateKey, publicKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = publicKey.export({ format: 'jwk' });

  fs.writeFileSync(path.join(directory, 'key.pem'),
    privateKey.export({ type: 'pkcs8', format: 'pem' }), { mode: 0o600 });
  fs.writeFileSync(path.join(directory, 'keys.json'),
    JSON.stringify({ keys: [{ ...jwk, kid: KEY_ID, alg: 'RS256', use: 'sig' }] }));
}

function sign(directory, project, uid, changes) {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: `https://securetoken.google.com/${project}`,
    aud: project,
    auth_time: now - 60,
    iat: now - 60,
    exp: now + 3600,
    sub: uid,
    user_id: uid,
    email: `${uid}@example.com`,
    email_verified: true,
    firebase: { sign_in_provider: 'password', identities: {} },
  };

  for (const change of changes) {
    const [, claim, json] = /^([^=]+)=(.*)$/s.exec(change);
    claims[claim] = json === '' ? undefined : JSON.parse(json);
  }
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const signed = `${encode({ alg: 'RS256', kid: KEY_ID, typ: 'JWT' })}.${encode(claims)}`;
  const key = fs.readFileSync(path.join(directory, 'key.pem'));
  return `${signed}.${crypto.sign('sha256', signed, key).toString('base64url')}`;
}

const [command, ...words] = process.argv.slice(2);

if (command === 'new') {
  makeKeys(words[0]);
} else if (command === 'sign') {
  process.stdout.write(`${sign(words[0], words[1], words[2], words.slice(3))}\n`);
} else {
  process.stderr.write('usage: token.mjs new|sign …\n');
  process.exit(2);
}
