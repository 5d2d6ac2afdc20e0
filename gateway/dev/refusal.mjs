// A request is refused, in Firebase's words: the SDK turns EMAIL_EXISTS into the error
// auth/email-already-in-use, and so on.

export class Refusal extends Error {
  constructor(message, status = 400) {
    super(message);
    this.status = status;
  }

  get body() {
    const { message, status } = this;

    return { error: { code: status, message, errors: [{ message, reason: 'invalid', domain: 'global' }] } };
  }
}
