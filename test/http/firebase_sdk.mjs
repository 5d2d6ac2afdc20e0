// firebase_sdk.mjs URL: what the Firebase web SDK makes of the identity service there,
// as one object of JSON.  Of what fails it has the code of the error.
//
// The SDK is the one that the dashboard is built with.

import { createRequire } from 'node:module';

const require = createRequire(new URL('../../gateway/dashboard/', import.meta.url));
const { initializeApp } = require('@firebase/app');
const sdk = require('@firebase/auth');

const EMAIL = 'Ada@Example.com';
const PASSWORD = 'first-programmer';
const NEW_PASSWORD = 'second-programmer';

const url = process.argv[2];

// A browser of its own: nobody is signed in.
function open(name) {
  const auth = sdk.getAuth(initializeApp({ apiKey: 'any' }, name));

  sdk.connectAuthEmulator(auth, url, { disableWarnings: true });
  return auth;
}

async function codeOf(promise) {
  try {
    await promise;
    return 'no error';
  } catch (error) {
    return error.code;
  }
}

const ada = open('ada');
const found = {};

const { user } = await sdk.createUserWithEmailAndPassword(ada, EMAIL, PASSWORD);
found.signedUp = { uid: user.uid, email: user.email, token: await user.getIdToken() };

const other = open('other');
found.again = await codeOf(sdk.createUserWithEmailAndPassword(other, EMAIL.toLowerCase(), PASSWORD));
found.weak = await codeOf(sdk.createUserWithEmailAndPassword(other, 'eve@example.com', '12345'));
found.noAddress = await codeOf(sdk.createUserWithEmailAndPassword(other, 'eve', PASSWORD));
found.wrongPassword = await codeOf(sdk.signInWithEmailAndPassword(other, EMAIL, 'wrong-password'));
found.unknown = await codeOf(sdk.signInWithEmailAndPassword(other, 'eve@example.com', PASSWORD));
found.reset = await codeOf(sdk.sendPasswordResetEmail(other, EMAIL));
found.nobody = other.currentUser;

const signedIn = await sdk.signInWithEmailAndPassword(other, EMAIL, PASSWORD);
found.signedIn = { uid: signedIn.user.uid, token: await signedIn.user.getIdToken() };
await sdk.updateProfile(signedIn.user, { displayName: 'Ada' });
found.refreshed = { token: await signedIn.user.getIdToken(true), name: signedIn.user.displayName };

// The sessions that were begun with the old password end.
await sdk.updatePassword(signedIn.user, NEW_PASSWORD);
found.afterNewPassword = await codeOf(user.getIdToken(true));
found.oldPassword = await codeOf(sdk.signInWithEmailAndPassword(ada, EMAIL, PASSWORD));
found.newPassword = await codeOf(sdk.signInWithEmailAndPassword(ada, EMAIL, NEW_PASSWORD));

const guest = await sdk.signInAnonymously(open('guest'));
found.anonymous = { uid: guest.user.uid, token: await guest.user.getIdToken() };
found.linked = await codeOf(sdk.linkWithCredential(guest.user,
  sdk.EmailAuthProvider.credential('guest@example.com', PASSWORD)));
await sdk.deleteUser(guest.user);
found.deleted = await codeOf(guest.user.getIdToken(true));

process.stdout.write(`${JSON.stringify(found)}\n`);
process.exit(0);
