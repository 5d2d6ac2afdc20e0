// ID tokens in Firebase's format, and refresh tokens.
//
// The signing key is made at the start and is never written anywhere.  So a server that
// accepts these tokens stops doing so when the identity service has been restarted and
// the server has fetched the new key.

import crypto from 'node:crypto';

// The provider that a token names says how the person has signed in.
export const PASSWORD = 'password';
export const GOOGLE = 'google.com';
export const ANONYMOUS = 'anonymous';

function encode(part) {
  return Buffer.from(JSON.stringify(part)).toString('base64url');
}

function decode(part) {
  return JSON.parse(Buffer.from(part, 'base64url').toString());
}

function secondsNow() {
  return Math.floor(Date.now() / 1000);
}

export class Tokens {
  #privateKey;
  #publicKey;
  #keyId;
  #project;
  #issuer;
  #lifetime;
  #sessions = new Map();

  // "lifetime" is how long an ID token is good, in seconds.
  constructor(project, lifetime) {
    const pair = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
    const { n } = pair.publicKey.export({ format: 'jwk' });

    this.#privateKey = pair.privateKey;
    this.#publicKey = pair.publicKey;
    this.#keyId = crypto.createHash('sha256').update(n).digest('hex').slice(0, 40);
    this.#project = project;
    this.#issuer = `https://securetoken.google.com/${project}`;
    this.#lifetime = lifetime;
  }

  // The key that the tokens can be verified with, as a JWK set (RFC 7517 section 5).
  get keySet() {
    const { kty, n, e } = this.#publicKey.export({ format: 'jwk' });

    return { keys: [{ kty, n, e, kid: this.#keyId, alg: 'RS256', use: 'sig' }] };
  }

  // Begin a session of a person who has just signed in.
  begin(person, provider) {
    const refreshToken = crypto.randomBytes(32).toString('base64url');
    const session = { person, provider, refreshToken, signedInAt: secondsNow(), ended: false };

    this.#sessions.set(refreshToken, session);
    return session;
  }

  // The session of a refresh token; undefined if there is none.
  find(refreshToken) {
    return this.#sessions.get(refreshToken);
  }

  // End all sessions of a person; their refresh tokens are known, but no good any more.
  end(person) {
    for (const session of this.#sessions.values()) {
      session.ended ||= session.person === person;
    }
  }

  // Forget all sessions.
  forget() {
    this.#sessions.clear();
  }

  // What the SDK calls an ID token and its lifetime, for a session.
  issue({ person, provider, refreshToken, signedInAt }) {
    return {
      idToken: this.#sign(person, person.email === undefined ? ANONYMOUS : provider, signedInAt),
      refreshToken,
      expiresIn: String(this.#lifetime),
    };
  }

  #sign(person, provider, signedInAt) {
    const now = secondsNow();
    const { email, name, isVerified } = person;
    const claims = {
      name,
      iss: this.#issuer,
      aud: this.#project,
      auth_time: signedInAt,
      user_id: person.uid,
      sub: person.uid,
      iat: now,
      exp: now + this.#lifetime,
      email,
      email_verified: email === undefined ? undefined : isVerified,
      provider_id: provider === ANONYMOUS ? ANONYMOUS : undefined,
      firebase: {
        identities: email === undefined ? {} : { email: [email], ...(provider === GOOGLE && { [GOOGLE]: [email] }) },
        sign_in_provider: provider,
      },
    };
    const header = { alg: 'RS256', kid: this.#keyId, typ: 'JWT' };
    const signed = `${encode(header)}.${encode(claims)}`;

    return `${signed}.${crypto.sign('sha256', signed, this.#privateKey).toString('base64url')}`;
  }

  // The claims of an ID token that we have signed and that has not expired; undefined
  // for anything else.
  read(idToken) {
    const [header, claims, signature, ...rest] = String(idToken).split('.');

    if (signature === undefined || rest.length > 0 ||
        !crypto.verify('sha256', `${header}.${claims}`, this.#publicKey,
          Buffer.from(signature, 'base64url'))) {
      return undefined;
    }
    const found = decode(claims);
    return found.exp > Date.now() / 1000 ? found : undefined;
  }
}
