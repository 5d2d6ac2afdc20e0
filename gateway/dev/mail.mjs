// The emails that Firebase would send.  Nobody gets them: their links are listed, as
// Google's auth emulator lists them.

import crypto from 'node:crypto';

export class Mail {
  #letters = new Map();

  // Write an email with a link that a person can open once.
  write(person, requestType) {
    const letter = { email: person.email, requestType, oobCode: crypto.randomBytes(24).toString('base64url') };

    this.#letters.set(letter.oobCode, { letter, person });
    return letter;
  }

  // The person who has opened the link with this code; undefined if there is no such link.
  open(code) {
    const { person } = this.#letters.get(code) ?? {};

    this.#letters.delete(code);
    return person;
  }

  get letters() {
    return [...this.#letters.values()].map(({ letter }) => letter);
  }

  removeAll() {
    this.#letters.clear();
  }
}
