// sign_up.mjs URL MODULE
//     With the Firebase web SDK, a person signs up at the identity service at URL;
//     signUp() of MODULE, of docs/clients.md, asks for a key, twice under one name, and
//     once for what is refused.  Prints { token, uid, first, again, refused }.

import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const require = createRequire(new URL('../../gateway/dashboard/', import.meta.url));
const { initializeApp } = require('@firebase/app');
const sdk = require('@firebase/auth');

const [url, module] = process.argv.slice(2);
const { signUp } = await import(pathToFileURL(module));

const auth = sdk.getAuth(initializeApp({ apiKey: 'any' }));
sdk.connectAuthEmulator(auth, url, { disableWarnings: true });
const { user } = await sdk.createUserWithEmailAndPassword(auth, 'ada@example.com', 'first-programmer');

console.log(JSON.stringify({
  token: await user.getIdToken(),
  uid: user.uid,
  first: await signUp(user, 'Acme Docs', 'first-key'),
  again: await signUp(user, 'Acme Docs', 'first-key'),
  refused: await signUp(user, '').then(() => 'nothing', (error) => error.message),
}));
process.exit();
