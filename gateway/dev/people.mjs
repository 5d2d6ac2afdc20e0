// The people who can sign in.  They are in memory, and gone when the service ends.

import crypto from 'node:crypto';

import { Refusal } from './refusal.mjs';

const MINIMAL_PASSWORD = 6;

// As Firebase has them: 28 letters and digits.
function newUid() {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

  return Array.from({ length: 28 }, () => alphabet[crypto.randomInt(alphabet.length)]).join('');
}

function checkedEmail(email) {
  if (email === undefined || email === '') {
    throw new Refusal('MISSING_EMAIL');
  }
  if (typeof email !== 'string' || !/^[^\s@]+@[^\s@]+$/.test(email)) {
    throw new Refusal('INVALID_EMAIL');
  }
  return email.toLowerCase();
}

function checkedPassword(password) {
  if (password === undefined || password === '') {
    throw new Refusal('MISSING_PASSWORD');
  }
  if (typeof password !== 'string' || password.length < MINIMAL_PASSWORD) {
    throw new Refusal(`WEAK_PASSWORD : Password should be at least ${MINIMAL_PASSWORD} characters`);
  }
  return password;
}

// A developer may type a real password, so we do not keep it.
function hash(password, salt) {
  return crypto.scryptSync(password, salt, 32);
}

export class People {
  #byUid = new Map();
  #byEmail = new Map();

  // Add a person: an anonymous one if there is neither an email address nor a password.
  add({ email, password, displayName, idToken }) {
    if (idToken !== undefined) {
      throw new Refusal('OPERATION_NOT_ALLOWED : Accounts cannot be linked');
    }
    if (email === undefined && password === undefined) {
      return this.#create({ name: displayName });
    }
    const address = checkedEmail(email);
    const chosen = checkedPassword(password);

    if (this.#byEmail.has(address)) {
      throw new Refusal('EMAIL_EXISTS');
    }
    const person = this.#create({ email: address, name: displayName });
    this.#setPassword(person, chosen);
    return person;
  }

  // The person with this email address and password.  Like Firebase, we do not say
  // which of the two is wrong.
  signIn({ email, password }) {
    const person = this.#byEmail.get(checkedEmail(email));

    if (password === undefined || password === '') {
      throw new Refusal('MISSING_PASSWORD');
    }
    if (person?.hash === undefined ||
        !crypto.timingSafeEqual(hash(String(password), person.salt), person.hash)) {
      throw new Refusal('INVALID_LOGIN_CREDENTIALS');
    }
    return person;
  }

  // The person whom another provider knows to have this email address.  As at Firebase, a
  // password that somebody has chosen for an address that was not verified is no good
  // any more.
  enter({ email, name }) {
    const address = checkedEmail(email);
    const person = this.#byEmail.get(address) ?? this.#create({ email: address, name });

    if (!person.isVerified) {
      person.salt = undefined;
      person.hash = undefined;
      person.isVerified = true;
    }
    return person;
  }

  find(uid) {
    return this.#byUid.get(uid);
  }

  // Change what is given.
  change(person, { displayName, password }) {
    if (password !== undefined) {
      this.#setPassword(person, checkedPassword(password));
    }
    if (displayName !== undefined) {
      person.name = String(displayName);
    }
  }

  remove(person) {
    this.#byUid.delete(person.uid);
    this.#byEmail.delete(person.email);
  }

  removeAll() {
    this.#byUid.clear();
    this.#byEmail.clear();
  }

  #create({ email, name }) {
    const person = { uid: newUid(), email, name, isVerified: false, createdAt: Date.now() };

    this.#byUid.set(person.uid, person);
    if (email !== undefined) {
      this.#byEmail.set(email, person);
    }
    return person;
  }

  #setPassword(person, password) {
    person.salt = crypto.randomBytes(16);
    person.hash = hash(password, person.salt);
  }
}
