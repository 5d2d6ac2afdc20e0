// Who is signed in, by Firebase.  The session belongs to the tab, and ends with it.

import { initializeApp } from '@firebase/app';
import {
  GoogleAuthProvider, browserPopupRedirectResolver, browserSessionPersistence, connectAuthEmulator,
  createUserWithEmailAndPassword, initializeAuth, onAuthStateChanged, reload, sendEmailVerification,
  sendPasswordResetEmail, signInWithEmailAndPassword, signInWithPopup, signOut,
} from '@firebase/auth';

const { apiKey, authDomain, emulatorUrl } = JSON.parse(document.querySelector('meta[name=settings]').content);

const auth = initializeAuth(initializeApp({ apiKey, authDomain }), { persistence: browserSessionPersistence });

if (emulatorUrl !== undefined) {
  connectAuthEmulator(auth, emulatorUrl, { disableWarnings: true });
}

// For development: people sign in somewhere else than at Firebase.
export const isDevelopment = emulatorUrl !== undefined;

// Can people sign in with Google?
export const hasGoogle = authDomain !== undefined;

// Call "listener" with who is signed in, now and after each change; null for nobody.
// Returns what ends that.
export function onPerson(listener) {
  return onAuthStateChanged(auth, (user) =>
    listener(user && { uid: user.uid, email: user.email, isVerified: user.emailVerified }));
}

export function signIn(email, password) {
  return signInWithEmailAndPassword(auth, email, password);
}

export function signInWithGoogle() {
  return signInWithPopup(auth, new GoogleAuthProvider(), browserPopupRedirectResolver);
}

// Send a link that verifies the person's email address.
export function sendVerification() {
  return sendEmailVerification(auth.currentUser);
}

// Has the person opened that link?  Then the next ID token says so.
export async function checkVerification() {
  await reload(auth.currentUser);
  await idToken(true);
  return auth.currentUser.emailVerified;
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
