// dashboard.mjs URL PICTURES: use the dashboard there as people do, from a fresh sign-up
// on.  PG* names the database behind it, for its superuser; IDENTITY is where people sign
// in.

import { equal } from './browser.mjs';
import { credits } from './credits.mjs';
import { firstScreen, signUp, storeSecret, useKey } from './first_key.mjs';
import {
  afterRevocation, byKeyboard, change, features, filters, history, hygiene, leak, rotation,
} from './keys.mjs';
import { organization, signOut } from './organization.mjs';
import { browser, nowhere, part, run } from './person.mjs';

await run(async () => {
  await part(firstScreen);
  const first = await part(signUp);

  await part(storeSecret, first);
  await part(useKey, first);
  await part(nowhere, first.secret, 'after signing up');
  await part(afterRevocation, await part(byKeyboard));
  await part(history, first);
  await part(filters);
  equal(browser.takeComplaints(), '', 'keys: no complaint');
  await part(rotation, await part(features, first.org_id));
  await part(change, first.org_id);
  await part(hygiene, first.org_id);
  await part(leak, first.org_id);
  await part(credits, first.org_id);
  await part(organization);
  await part(signOut);
});
