'use strict';

// verify.js: what the package standardwebhooks says of a signed message.
//
// Reads JSON on standard input: secret, headers, body.  Prints "good" or
// "refused"; fails if anything else goes wrong.

const { Webhook, WebhookVerificationError } = require('standardwebhooks');

const { secret, headers, body } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));

try {
  new Webhook(secret).verify(body, headers);
  console.log('good');
} catch (error) {
  if (!(error instanceof WebhookVerificationError)) throw error;
  console.log('refused');
}
