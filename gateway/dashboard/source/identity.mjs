// Who is signed in, by Firebase.  The session belongs to the tab, and ends with it.

import { initializeApp } from '@firebase/app';
import {
  browserSessionPersistence, connectAuthEmulator, createUserWithEmailAndPassword, initializeAuth,
  onAuthStateChanged, sendPasswordResetEmail, signInWithEmailAndPassword, signOut,
} from '@firebase/auth';

const { apiKey, emulatorUrl } = JSON.parse(document.querySelector('meta[name=settings]').content);

const auth = initializeAuth(initializeApp({ apiKey }), { persistence: browserSessionPersistence });

if (emulatorUrl !== undefined) {
  connectAuthEmulator(auth, emulatorUrl, { disableWarnings: true });
}

// For development: people sign in somewhere else than at Firebase.
export const isDevelopment = emulatorUrl !== undefined;

// Call "listener" with who is signed in, now and after each change; null for nobody.
// Returns what ends that.
export function onPerson(listener) {
  return onAuthStateChanged(auth, (user) => listener(user && { uid: user.uid, email: user.email }));
}

export function signIn(email, password) {
  return signInWithEmailAndPassword(auth, email, password);
}

export function createAccount(email, password) {
  return createUserWithEmailAndPassword(auth, email, password);
}

export function resetPassword(email) {
  return sendPasswordResetEmail(auth, email);
}

export function leave() {
  return signOut(auth);
}

// The ID token of the person who is signed in; "fresh" asks for a new one.
export function idToken(fresh) {
  return auth.currentUser.getIdToken(fresh);
}
