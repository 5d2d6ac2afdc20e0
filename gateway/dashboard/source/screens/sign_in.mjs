// Signing in, or creating an account to sign in with.

import { useState } from 'preact/hooks';

import { html } from '../html.mjs';
import {
  createAccount, hasGoogle, isDevelopment, resetPassword, signIn, signInWithGoogle,
} from '../identity.mjs';
import { announce } from '../parts/announce.mjs';
import { Field } from '../parts/field.mjs';
import { ActionButton, Problem, useAction } from '../parts/load.mjs';
import { Screen } from '../parts/screen.mjs';

export function SignIn() {
  const [isNew, setIsNew] = useState(false);
  const [email, setEmail] = useState('');
  const [password, setPassword] = useState('');
  const entering = useAction(() => (isNew ? createAccount : signIn)(email, password));
  const enteringWithGoogle = useAction(signInWithGoogle);
  const resetting = useAction(async () => {
    await resetPassword(email);
    announce('If there is an account with this address, an email with a link is on its way.');
  });
  const title = isNew ? 'Create an account' : 'Sign in';

  function submit(event) {
    event.preventDefault();
    entering.run();
  }

  return html`<${Screen} title=${title}>
    ${isDevelopment && html`<p class="notice">This is for development: nothing here is checked by Firebase.</p>`}
    <form class="narrow" onSubmit=${submit}>
      <${Field} id="email" name="email" label="Email address" type="email" autocomplete="username" required
        value=${email} onInput=${setEmail} />
      <${Field} id="password" name="password" label="Password" type="password" required
        autocomplete=${isNew ? 'new-password' : 'current-password'} value=${password} onInput=${setPassword}
        hint=${isNew ? 'At least 6 characters' : undefined} />
      <${Problem} of=${entering} />
      <div class="buttons"><${ActionButton} type="submit" kind="main" action=${entering}>${title}<//></div>
    </form>
    <div class="buttons">
      <button type="button" class="plain" onClick=${() => setIsNew(!isNew)}>
        ${isNew ? 'I have an account' : 'Create an account'}</button>
      ${!isNew && html`<${ActionButton} kind="plain" action=${resetting}>I have forgotten my password<//>`}
    </div>
    <${Problem} of=${resetting} />
    ${hasGoogle && html`<div class="buttons"><${ActionButton} action=${enteringWithGoogle}>Sign in with Google<//></div>
      <${Problem} of=${enteringWithGoogle} />`}
  <//>`;
}
