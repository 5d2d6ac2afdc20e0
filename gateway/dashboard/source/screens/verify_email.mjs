// The service takes only people whose email address is verified, and this one is not.

import { useState } from 'preact/hooks';

import { html } from '../html.mjs';
import { checkVerification, sendVerification } from '../identity.mjs';
import { announce } from '../parts/announce.mjs';
import { ActionButton, Problem, useAction } from '../parts/load.mjs';

export function VerifyEmail({ person }) {
  const [isVerified, setIsVerified] = useState(false);
  const sending = useAction(async () => {
    await sendVerification();
    announce('An email with a link is on its way.');
  });
  const checking = useAction(async () => {
    const found = await checkVerification();

    announce(found ? 'Your email address is verified.' : 'The link has not been opened yet.');
    setIsVerified(found);
  });

  if (isVerified) {
    return html`<p class="notice good">Your email address is verified. You can sign up.</p>`;
  }
  return html`<div class="notice">
    <p><strong>Verify your email address first</strong>: open the link in the email to ${person.email}.</p>
    <div class="buttons"><${ActionButton} action=${sending}>Send the email<//>
      <${ActionButton} action=${checking}>I have opened the link<//></div>
    <${Problem} of=${sending} /><${Problem} of=${checking} />
  </div>`;
}
