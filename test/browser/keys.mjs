// What people do with keys.

import { check, equal } from './browser.mjs';
import {
  answerOf, api, browser, button, downloadBy, focusIs, link, nowhere, page, posts, region, row, sql, tabTo, url, verify, visit,
} from './person.mjs';

// Create, look at and revoke a key by the keyboard alone.
export async function byKeyboard() {
  await page.keyboard.press('Tab');
  await tabTo('Keys');
  await page.keyboard.press('Enter');
  await browser.heading('Keys');
  await focusIs('# Keys', 'the heading of a new screen has the focus');
  await tabTo('Create a key');
  await page.keyboard.press('Enter');
  await page.getByLabel('Name').waitFor();
  await browser.look('create');
  await tabTo('name');
  await page.keyboard.type('ci-tests');
  const before = posts('/api-keys').length;
  const answer = await answerOf(async () => {
    await page.keyboard.press('Enter');
    await page.keyboard.press('Enter');
  });
  await browser.heading('Store the secret of “ci-tests”');
  const sent = posts('/api-keys').slice(before);
  equal(sent.length, 1, 'a form that is sent twice is sent once');
  check(/^[0-9a-f-]{36}$/.test(sent[0].headers['idempotency-key']), 'under a name for repetitions');
  await tabTo('Show the secret');
  await page.keyboard.press('Space');
  await page.getByText(answer.secret, { exact: true }).waitFor();
  await tabTo('I have stored it');
  await page.keyboard.press('Enter');
  await browser.heading('ci-tests');

  for (let uses = 0; uses < 3; uses++) {
    await verify(answer.secret);
  }
  await tabTo('Revoke…');
  await page.keyboard.press('Enter');
  await page.getByText('It is in use: 3 requests in the last hour, from 127.0.0.1.').waitFor();
  await focusIs('Cancel', 'Cancel has the focus');
  await browser.look('revoke');
  await page.keyboard.press('Escape');
  await page.locator('dialog').waitFor({ state: 'detached' });
  await focusIs('Revoke…', 'Escape closes the dialog, and the focus returns');
  await page.keyboard.press('Enter');
  await page.getByText('It is in use: 3 requests in the last hour, from 127.0.0.1.').waitFor();
  await tabTo('revoke-name');
  await page.keyboard.type('ci-test');
  await page.keyboard.press('Enter');
  equal(await verify(answer.secret), 200, 'another name revokes nothing');
  await page.keyboard.type('s');
  await page.keyboard.press('Enter');
  await page.getByText('Revoked “ci-tests”.').waitFor();
  equal(await verify(answer.secret), 401, 'the key is revoked');
  await focusIs('# ci-tests', 'the focus is on the heading');
  return answer;
}

export async function afterRevocation(revoked) {
  await page.reload();
  await page.getByRole('heading', { name: 'Used after it was revoked' }).waitFor();
  await page.getByRole('img', { name: /^Uses by hour: [45] uses accepted, 1 refused$/ }).waitFor();
  await page.getByRole('region', { name: 'Uses by address' }).getByText('127.0.0.1').waitFor();
  await page.getByRole('region', { name: 'Audit log' }).getByText('revoke key').waitFor();
  await browser.look('key');
  await button('30 days').click();
  await page.waitForURL(/\?days=30$/);
  await page.getByRole('img', { name: /^Uses by hour: [45] uses accepted, 1 refused$/ }).waitFor();
  await page.getByText('The same as a table').click();
  await page.getByRole('region', { name: 'Uses by hour' }).waitFor();
  check(true, 'the history of 30 days, as bars and as a table');
  await browser.look('key 30 days');
}

// A key that has been in use for a while; its pictures are those of README.md.
export async function history({ org_id: orgId, key_id: keyId }) {
  await sql("UPDATE overten_auth.api_keys SET created_at = created_at - interval '60 days' WHERE key_id = $1", keyId);
  await sql(`INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
    SELECT $1, hour, client_addr, 5 + share * (1.1 + sin((extract(hour FROM hour) - 9) * pi() / 12))
      * CASE WHEN extract(isodow FROM hour) > 5 THEN 0.3 ELSE 1 END,
      CASE WHEN extract(day FROM hour)::int % 6 = 2 AND extract(hour FROM hour) = 14 THEN 9 ELSE 0 END, hour, hour + interval '59 minutes'
    FROM generate_series(date_trunc('hour', now()) - interval '27 days', now() - interval '1 hour', interval '1 hour') hour,
      (VALUES ('203.0.113.7'::inet, 90), ('203.0.113.8', 40)) clients (client_addr, share)`, keyId);
  await page.goto(`${url}#/${orgId}/keys/${keyId}?days=30`);
  await browser.heading('primary');
  await page.getByRole('heading', { name: 'Used from a new address' }).waitFor();
  await page.getByRole('region', { name: 'Uses by address' }).getByText('203.0.113.8').waitFor();
  await browser.look('key with history');
}

export async function filters() {
  await link('All keys').click();
  await browser.heading('Keys');
  await page.getByText('1 revoked key').click();
  await page.getByRole('row', { name: /ci-tests/ }).getByText('revoked', { exact: true }).waitFor();
  await browser.look('keys');
  await page.getByLabel('Search').fill('PRIM');
  await page.getByText('1 revoked key').waitFor({ state: 'detached' });
  await page.reload();
  equal(await page.getByLabel('Search').inputValue(), 'PRIM', 'a filter is in the URL');
  await page.getByLabel('Status').selectOption('revoked');
  await page.getByText('No key is like this.').waitFor();
  await browser.look('no key found');
  await link('Show all keys').click();
  await page.getByRole('row', { name: /primary/ }).waitFor();
}

// What the service offers beyond the basics is there when it is switched on.
export async function features(orgId) {
  await page.goto(`${url}#/${orgId}/keys/new`);
  await page.getByLabel('Name').waitFor();
  equal(await page.getByLabel('Expires').count() + await page.getByLabel('Allowed addresses').count(), 0,
    'nothing is offered that is off');
  await sql("INSERT INTO overten_auth.scopes VALUES ('jobs.read', 'Read jobs', true), ('jobs.write', '', true), ('admin', 'Everything', false)");
  await sql("ALTER SYSTEM SET overten_auth.key_features = 'expiry, disable, addresses, people, rotation, environments, scopes, details'");
  await sql('SELECT pg_reload_conf()');
  for (let tries = 0; tries < 100 && await page.getByLabel('Expires').count() === 0; tries++) {
    await page.reload();
    await page.getByLabel('Name').waitFor();
  }
  await browser.look('create with features');
  await page.getByLabel('Name').fill('contractor');
  await page.getByLabel('Expires').selectOption('in 7 days');
  await page.getByLabel('Allowed addresses').fill('127.0.0.0/8, nowhere');
  await button('Create the key').click();
  await page.locator('#addresses-error').waitFor();
  await page.getByLabel('Allowed addresses').fill('127.0.0.0/8, ::1');
  browser.expectComplaints('400 (Bad Request)');
  const { secret } = await answerOf(() => button('Create the key').click());
  await browser.heading('Store the secret of “contractor”');
  await button('I have stored it').click();
  await page.getByText('expires in 6 days').waitFor();
  await page.getByText('127.0.0.0/8, ::1/128').waitFor();
  equal(await verify(secret), 200, 'a key with features works');
  await button('Revoke…').click();
  await button('Disable it instead').click();
  await page.getByText('Disabled “contractor”.').waitFor();
  equal(await verify(secret), 401, 'a key can be disabled');
  await page.getByText('disabled', { exact: true }).waitFor();
  await browser.look('disabled key');
  await button('Enable').click();
  await page.getByText('Enabled “contractor”.').waitFor();
  equal(await verify(secret), 200, 'and enabled again');
  return secret;
}

// Replace a key: both are good for a while, and the old one ends when nobody needs it.
export async function rotation(old) {
  await button('Rotate…').click();
  await page.getByRole('dialog').waitFor();
  await focusIs('Cancel', 'Cancel has the focus before a rotation');
  await browser.look('rotate');
  await page.getByLabel('The old key should').selectOption('be good for 7 days');
  const { secret } = await answerOf(() => button('Rotate').click());
  await browser.heading('Store the secret of “contractor”');
  await button('I have stored it').click();
  await page.getByRole('heading', { name: 'Rotation' }).waitFor();
  equal(`${await verify(old)} ${await verify(secret)}`, '200 200', 'both keys are good');
  await page.reload();
  await page.getByRole('region', { name: 'Uses since the rotation' }).getByText('new').waitFor();
  await browser.look('rotation');
  await button('Rotate…').click();
  await button('Rotate').click();
  await page.getByText('The last rotation of this key is not over.').waitFor();
  browser.expectComplaints('409 (Conflict)');
  await button('Cancel').click();
  await button('End the old key now').click();
  await page.getByText('It has ended.').waitFor();
  equal(`${await verify(old)} ${await verify(secret)}`, '401 200', 'the old key has ended');
}

// Change what can be changed, and nothing else.
export async function change(orgId) {
  await button('Rotate…').waitFor();
  await link('Change…').click();
  await browser.heading('Change a key');
  await page.getByLabel('Description').waitFor();
  await browser.look('change');
  const before = browser.requests.length;
  await button('Save').click();
  await browser.heading('contractor');
  equal(browser.requests.slice(before).filter((each) => each.method === 'PATCH').length, 0, 'nothing is sent if nothing was changed');
  await tabTo('Change…');
  await page.keyboard.press('Enter');
  await browser.heading('Change a key');
  await page.getByLabel('Name').waitFor();
  await tabTo('name');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('agency');
  await page.getByLabel('Description').fill(' The agency in Oslo ');
  await page.getByLabel('Metadata').fill('{"team": ');
  await button('Save').click();
  await page.locator('#metadata-error').getByText('The metadata must be a JSON object').waitFor();
  await page.getByLabel('Metadata').fill('[1]');
  await button('Save').click();
  await page.locator('#metadata-error').getByText('must be null or an object').waitFor();
  browser.expectComplaints('400 (Bad Request)');
  await page.getByLabel('Metadata').fill('{"team": "billing"}');
  await page.getByLabel('Expires').selectOption('never');
  await page.getByLabel('Allowed addresses').fill('');
  await page.getByLabel('Can be used for').selectOption('what is chosen below');
  await page.getByLabel('jobs.read: Read jobs').check();
  await page.getByLabel('jobs.write').check();
  equal(await page.getByText('admin').count(), 0, 'scopes are offered that customers may choose');
  await browser.look('change with errors');
  await button('Save').click();
  await browser.heading('agency');
  await page.getByText('jobs.read, jobs.write', { exact: true }).waitFor();
  await page.getByText('The agency in Oslo', { exact: true }).waitFor();
  await page.getByText('{"team":"billing"}', { exact: true }).waitFor();
  const [key] = await sql(`SELECT k.name, k.expires_at, k.scopes::text, k.allowed_addresses, d.description, d.metadata::text
    FROM overten_auth.api_keys k JOIN overten_auth.key_details d USING (key_id) WHERE k.org_id = $1 AND k.name = 'agency'`, orgId);
  equal(JSON.stringify(key), JSON.stringify({ name: 'agency', expires_at: null, scopes: '{jobs.read,jobs.write}', allowed_addresses: null, description: 'The agency in Oslo', metadata: '{"team": "billing"}' }),
    'the key is as it was to be');
}

// Keys to look at: each list has those that belong there, and no others.
export async function hygiene(orgId) {
  await sql(`WITH minted AS (SELECT n, (overten_mint_key($1, n, expires_at => now() + interval '9 days')).key_id
    FROM unnest('{idle,orphan,tidy,shared,visited,moved}'::text[]) n)
    SELECT key_id FROM minted`, orgId);
  await sql("UPDATE overten_auth.api_keys SET created_at = created_at - interval '91 days' WHERE org_id = $1 AND name = 'idle'", orgId);
  await sql("UPDATE overten_auth.api_keys SET created_by = 'left-last-year' WHERE org_id = $1 AND name = 'orphan'", orgId);
  // Five addresses; five, one of which was refused; and five, but not lately.
  await sql(`INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
    SELECT key_id, hour, ('203.0.113.' || n)::inet, 1 - refusal, refusal, hour, hour
    FROM overten_auth.api_keys, generate_series(1, 5) n,
      LATERAL (SELECT CASE WHEN name = 'visited' AND n = 5 THEN 1 ELSE 0 END AS refusal,
        date_trunc('hour', now()) - CASE WHEN name = 'moved' THEN interval '8 days' ELSE n * interval '1 day' END AS hour) u
    WHERE org_id = $1 AND name IN ('shared', 'visited', 'moved')`, orgId);
  await link('Hygiene').click();
  await browser.heading('Hygiene');
  const names = async (list) => (await region(list).getByRole('link').allTextContents()).join(' ');
  await region('Not used for 90 days').waitFor();
  equal(await names('Used from 5 or more addresses in 7 days'), 'shared', 'keys that many addresses use');
  equal(await region('Used from 5 or more addresses in 7 days').getByRole('row').nth(1).getByRole('cell').nth(2).innerText(), '5', 'and how many');
  equal(await names('Not used for 90 days'), 'idle', 'unused keys');
  equal(await names('Created by people who have left'), 'orphan', 'keys of people who have left');
  equal(await names('Without an expiry'), 'primary agency', 'keys without an expiry');
  await browser.look('hygiene');
  await region('Not used for 90 days').getByRole('link', { name: 'idle' }).click();
  await browser.heading('idle');
}

// A key has leaked: it is revoked at once, with all that belongs to that.
export async function leak(orgId) {
  const [{ secret, key_id: keyId }] = await sql("SELECT secret, key_id FROM overten_mint_key($1, 'staging', allowed_addresses => '{127.0.0.0/8}')", orgId);
  const { webhook_secret: before } = await (await fetch(`${api}/verify`, { headers: { Authorization: `Bearer ${secret}` } })).json();

  await sql(`INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
    SELECT $1, hour, '203.0.113.7'::inet, 20 + extract(hour FROM hour), 0, hour, hour + interval '59 minutes'
    FROM generate_series(date_trunc('hour', now()) - interval '20 days', now() - interval '2 hours', interval '1 hour') hour
    UNION ALL SELECT $1, date_trunc('hour', now()), '198.51.100.23', 1211, 0, now(), now()`, keyId);
  await visit(orgId, 'keys', keyId);
  await browser.heading('staging');
  await tabTo('It leaked…');
  await page.keyboard.press('Enter');
  await browser.heading('“staging” has leaked');
  await page.getByText('It is in use: 1,212 requests in the last hour, from 2 addresses.').waitFor();
  await browser.look('leaked');
  await page.getByLabel('Reason').fill('In the log of the build');
  const deletions = () => browser.requests.filter((each) => each.method === 'DELETE').length;
  const earlier = deletions();
  await button('Revoke it now').dblclick();
  await page.getByText('It is revoked').waitFor();
  equal(deletions() - earlier, 1, 'a button that is clicked twice acts once');
  equal(await verify(secret), 401, 'the leaked key is revoked');
  const [{ revoked_reason: reason }] = await sql('SELECT revoked_reason FROM overten_auth.api_keys WHERE key_id = $1', keyId);
  equal(reason, 'In the log of the build', 'with the reason');
  const table = await downloadBy(() => button('Download the uses as CSV').click());
  check(/^key_\w+-uses.csv: "hour","address","accepted","refused","first","last"\r\n/.test(table) && /^"[0-9TZ:-]+","198.51.100.23","1211","0","[0-9TZ:-]+","[0-9TZ:-]+"\r$/m.test(table), 'its uses can be downloaded', table);

  const [answer] = await Promise.all([page.waitForResponse(/webhook-secret\/rotate$/), button('Replace the webhook secret now').click()]);
  const { webhook_secret: webhookSecret } = await answer.json();
  await browser.heading('Store the new webhook secret');
  check(before !== webhookSecret && [before, webhookSecret].every((each) => each.startsWith('whsec_')), 'the webhook secret is another one');
  check(!(await page.content()).includes(webhookSecret), 'the webhook secret is not in the document before it is asked for');
  await browser.look('webhook secret');
  await button('Show the webhook secret').click();
  await page.getByText(webhookSecret, { exact: true }).waitFor();
  await button('I have stored it').click();
  await browser.heading('“staging” has leaked');
  await nowhere(webhookSecret, 'after a new webhook secret');

  await tabTo('Create a key like it');
  await page.keyboard.press('Enter');
  await browser.heading('Create a key');
  equal(await page.getByLabel('Name').inputValue(), 'staging', 'a new key has the name of the old one');
  equal(await page.getByLabel('Allowed addresses').inputValue(), '127.0.0.0/8', 'and its addresses');
  await link('Cancel').click();
}
