// dashboard.mjs URL PICTURES: use the dashboard there as people do, from a fresh sign-up
// on.  PG* names the database behind it, as its superuser.

import { createRequire } from 'node:module';

import { Browser, check, equal, note } from './browser.mjs';

const { default: pg } = await import(createRequire(new URL('../../gateway/', import.meta.url)).resolve('pg'));

const [url, pictures] = process.argv.slice(2);
const api = new URL('/api/v1', url).href;
const database = new pg.Client();
const browser = await Browser.open(pictures);
const { page } = browser;

async function sql(text, ...values) {
  const { rows } = await database.query(text, values);

  return rows;
}

function button(name) {
  return page.getByRole('button', { name, exact: true });
}

function link(name) {
  return page.getByRole('link', { name, exact: true });
}

function focused() {
  return page.evaluate(() => document.activeElement.textContent || document.activeElement.id);
}

// Press Tab until something with this text or id has the focus.
async function tabTo(name) {
  for (let presses = 0; presses < 60; presses++) {
    if (await focused() === name) {
      return;
    }
    await page.keyboard.press('Tab');
  }
  check(false, `the keyboard reaches "${name}"`);
}

async function verify(secret) {
  const { status } = await fetch(`${api}/verify`, { headers: { Authorization: `Bearer ${secret}` } });

  return status;
}

// Do what makes the API answer with a secret; returns that answer.
async function answerOf(act) {
  const [response] = await Promise.all([
    page.waitForResponse((each) => each.request().method() === 'POST' && each.url().startsWith(api) && each.status() === 201),
    act(),
  ]);

  return response.json();
}

// The posts of the API since the beginning, by path.
function posts(part) {
  return browser.requests.filter((each) => each.method === 'POST' && each.url.startsWith(api) && each.url.includes(part));
}

async function signUp() {
  await page.goto(url);
  await browser.heading('Sign in');
  await browser.look('sign in');
  await page.getByLabel('Email address').fill('grace@example.com');
  await page.getByLabel('Password').fill('first-compiler');
  await button('Sign in').click();
  await page.getByText('The email address or the password is wrong.').waitFor();
  check(true, 'who is not known cannot sign in');
  await button('I have forgotten my password').click();
  await page.getByText('The sign-in service does not offer this.').waitFor();
  await button('Create an account').click();
  await browser.heading('Create an account');
  await page.getByLabel('Password').fill('short');
  await button('Create an account').click();
  await page.getByText('The password must have at least 6 characters.').waitFor();
  await browser.look('create an account');
  equal(browser.takeComplaints('400 (Bad Request)', '501 (Not Implemented)'), '', 'signing in: no complaint');
  await page.getByLabel('Password').fill('first-compiler');
  await button('Create an account').click();

  await browser.heading('Sign up for the API');
  await browser.look('sign up');
  await page.getByLabel('Name of the organization').fill('\u202eAcme');
  await button('Sign up').click();
  await page.locator('#org-name-error').waitFor();
  equal(await page.getByLabel('Name of the organization').getAttribute('aria-invalid'), 'true', 'a refusal is shown at its field');
  await browser.look('sign up refused');
  equal(browser.takeComplaints('400 (Bad Request)'), '', 'signing up: no complaint');
  await page.getByLabel('Name of the organization').fill('Acme Docs');
  return answerOf(() => button('Sign up').click());
}

async function storeSecret({ secret, webhook_secret: webhookSecret }) {
  await browser.heading('Store the secret of “primary”');
  check(!(await page.content()).includes(secret), 'the secret is not in the document before it is asked for');
  await browser.look('secret');
  await button('Show the secret').click();
  check((await page.locator('.secret code').first().textContent()) === secret, 'the secret is shown when it is asked for');
  await button('Copy the secret').click();
  equal(await page.evaluate(() => navigator.clipboard.readText()), secret, 'it can be copied');
  await page.getByText('Copied the secret.').waitFor();
  await button('Copy the webhook secret').click();
  equal(await page.evaluate(() => navigator.clipboard.readText()), webhookSecret, 'so can the webhook secret');
  const [download] = await Promise.all([page.waitForEvent('download'), button('Download as .env file').click()]);
  const chunks = await (await download.createReadStream()).toArray();
  equal(`${download.suggestedFilename()}: ${Buffer.concat(chunks)}`, `overten.env: OVERTEN_API_KEY=${secret}\n`, 'it can be downloaded');

  const asked = new Promise((resolve) => page.once('dialog', async (dialog) => {
    await dialog.dismiss();
    resolve(dialog.type());
  }));
  page.reload().catch(() => {});
  equal(await asked, 'beforeunload', 'the browser asks before the page is left');
  await page.evaluate(() => { location.hash = '#/'; });
  await browser.heading('Store the secret of “primary”');
  check(true, 'another place does not lose the secret');
  await button('I have stored it').click();
}

async function useKey({ secret, org_id: orgId, key_id: keyId }) {
  await browser.heading('The first request');
  await page.getByText('Waiting for the first request').waitFor();
  await browser.look('waiting');
  equal(await verify(secret), 200, 'the key is used');
  await page.getByText('It works.').waitFor();
  await browser.look('first request');
  await link('To the keys').click();
  await browser.heading('Keys');
  await page.getByRole('row', { name: /primary/ }).getByText('active').waitFor();
  equal(new URL(page.url()).hash, `#/${orgId}/keys`, 'the keys are at a URL of their own');
  await page.getByRole('img', { name: '1 use in 30 days' }).waitFor();
  await link('primary').click();
  await browser.heading('primary');
  equal(new URL(page.url()).hash, `#/${orgId}/keys/${keyId}`, 'so is one key');
}

async function nowhere(secret, what) {
  check(!(await browser.traces()).includes(secret), `${what}: the secret is nowhere in the page, what it keeps and what it has sent`);
  const holding = (await browser.memory()).filter((text) => text.includes(secret));
  equal(holding.map((text) => text.replaceAll(secret, '…')).join('\n'), '', `${what}: nor in its memory`);
}

// Create, look at and revoke a key by the keyboard alone.
async function byKeyboard() {
  await page.keyboard.press('Tab');
  await tabTo('Keys');
  await page.keyboard.press('Enter');
  await browser.heading('Keys');
  equal(await focused(), 'Keys', 'the heading of a new screen has the focus');
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
  equal(await focused(), 'Cancel', 'Cancel has the focus');
  await browser.look('revoke');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  equal(await focused(), 'Revoke…', 'Escape closes the dialog, and the focus returns');
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
  await page.waitForFunction(() => document.activeElement.localName === 'h1');
  check(true, 'the focus is on the heading');
  return answer;
}

async function afterRevocation(revoked) {
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
  await nowhere(revoked.secret, 'after revoking');
}

// A key that has been in use for a while; its pictures are those of README.md.
async function history({ org_id: orgId, key_id: keyId }) {
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

async function filters() {
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

// A token that the API refuses is replaced once, and a request without an answer is
// repeated, and then the person is told.
async function troubles(orgId) {
  let spoiled = 0;

  browser.takeComplaints();
  await page.route(`${api}/**`, async (route) => {
    spoiled++;
    await route.continue({ headers: { ...route.request().headers(), authorization: 'Bearer a.b.c' } });
  }, { times: 1 });
  await page.reload();
  await page.getByRole('row', { name: /primary/ }).waitFor();
  equal(spoiled, 1, 'a token that is refused is replaced');
  equal(browser.takeComplaints('401 (Unauthorized)'), '', 'a new token: no other complaint');

  await browser.context.setOffline(true);
  await link('Create a key').click();
  await page.getByText('The service cannot be reached.').waitFor();
  await browser.look('unreachable');
  await browser.context.setOffline(false);
  await button('Try again').click();
  await page.getByLabel('Name').waitFor();
  browser.takeComplaints('ERR_INTERNET_DISCONNECTED');

  const [other] = await sql("SELECT org_id FROM overten_create_org('Others')");
  for (const hash of [`#/${other.org_id}/keys`, `#/${orgId}/nowhere`, `#/${orgId}/keys/x/y`, '#/%zz', `#/${orgId}/keys/key_unknown`]) {
    await page.evaluate((place) => { location.hash = place; }, hash);
    await (hash === '#/%zz' ? browser.heading('Keys')
      : page.getByText(hash.includes('key_unknown') ? 'This key does not exist.' : 'There is nothing here').waitFor());
    browser.takeComplaints('404 (Not Found)');
  }
  check(true, 'places that are not there');
}

// What the service offers beyond the basics is there when it is switched on.
async function features(orgId) {
  await page.goto(`${url}#/${orgId}/keys/new`);
  await page.getByLabel('Name').waitFor();
  equal(await page.getByLabel('Expires').count() + await page.getByLabel('Allowed addresses').count(), 0,
    'nothing is offered that is off');
  await sql("ALTER SYSTEM SET overten_auth.key_features = 'expiry, disable, addresses, people, rotation, environments'");
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
  browser.takeComplaints('400 (Bad Request)');
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
async function rotation(old) {
  await button('Rotate…').click();
  await page.getByRole('dialog').waitFor();
  equal(await focused(), 'Cancel', 'Cancel has the focus before a rotation');
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
  browser.takeComplaints('409 (Conflict)');
  await button('Cancel').click();
  await button('End the old key now').click();
  await page.getByText('It has ended.').waitFor();
  equal(`${await verify(old)} ${await verify(secret)}`, '401 200', 'the old key has ended');
}

// What the whole organization did, and another person who joins and leaves it.
async function organization() {
  await link('Usage').click();
  await browser.heading('Usage');
  await page.getByRole('img', { name: /^Uses by day: [0-9,]+ uses accepted/ }).waitFor();
  await browser.look('usage');
  const [download] = await Promise.all([page.waitForEvent('download'), button('Download by day as CSV').click()]);
  const table = Buffer.concat(await (await download.createReadStream()).toArray()).toString();
  check(/^usage-\d{4}-\d\d\.csv: "key_id","name","prefix","day","accepted","refused"\r\n(?:"key_\w+","[^"]+","sk_live_\w{4}","[0-9-]{10}","\d+","\d+"\r\n)+$/
    .test(`${download.suggestedFilename()}: ${table}`), 'the usage can be downloaded', table);
  await page.getByLabel('Month').selectOption({ index: 2 });
  await page.getByText('There was no use in this month.').waitFor();
  await link('Audit log').click();
  await browser.heading('Audit log');
  await page.getByRole('region', { name: 'Audit log' }).getByText('disable key').waitFor();
  await browser.look('audit log');

  await link('Members').click();
  await browser.heading('Members');
  await page.getByText('grace@example.com (you)').waitFor();
  await page.getByText('Nobody is invited at the moment.').waitFor();
  await page.getByLabel('For whom').fill('Eve');
  await button('Invite').click();
  const code = await page.locator('.notice code').textContent();
  await page.getByRole('region', { name: 'Invitations' }).getByText('Eve').first().waitFor();
  await browser.look('members');
  await button('I have sent it').click();
  await nowhere(code, 'after inviting');

  await button('Sign out').click();
  await browser.heading('Sign in');
  await button('Create an account').click();
  await page.getByLabel('Email address').fill('eve@example.com');
  await page.getByLabel('Password').fill('first-compiler');
  await button('Create an account').click();
  await page.getByLabel('Code of the invitation').fill('inv_nothing');
  await button('Join').click();
  await page.locator('form').nth(1).getByRole('alert').getByText(/./).waitFor();
  browser.takeComplaints('404 (Not Found)', '400 (Bad Request)');
  await page.getByLabel('Code of the invitation').fill(` ${code} `);
  await button('Join').click();
  await browser.heading('Keys');
  await page.getByRole('row', { name: /primary/ }).waitFor();
  await link('Members').click();
  await button('Leave…').click();
  await browser.look('leave');
  equal(await focused(), 'Cancel', 'Cancel has the focus, too');
  await button('Leave').click();
  await browser.heading('Sign up for the API');
  await button('Sign out').click();
  await page.getByLabel('Email address').fill('grace@example.com');
  await page.getByLabel('Password').fill('first-compiler');
  await button('Sign in').click();
  await browser.heading('Keys');
}

// A thousand keys, and a key with the longest history that there can be.
async function largest(uid) {
  const [{ org_id: orgId }] = await sql("SELECT org_id FROM overten_create_org('Large')");
  await sql('SELECT overten_add_member($1, $2), overten_set_api_access($1, true)', orgId, uid);
  await sql("SELECT overten_mint_key($1, 'key ' || n) FROM generate_series(1, 1000) n", orgId);
  const [{ key_id: keyId }] = await sql("SELECT key_id FROM overten_auth.api_keys WHERE org_id = $1 AND name = 'key 500'", orgId);
  await sql(`INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
    SELECT $1, hour, ('198.51.100.' || n)::inet, 3, 1, hour, hour + interval '1 minute'
    FROM generate_series(date_trunc('hour', now()) - interval '90 days', now(), interval '1 hour') hour, generate_series(1, 64) n`, keyId);
  await sql(`INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
    VALUES ($1, date_trunc('hour', now()), '203.0.113.9', 7, 0, now(), now())`, keyId);

  let started = performance.now();
  await page.goto(`${url}#/${orgId}/keys`);
  await page.reload();
  await page.getByRole('row', { name: /key 1000/ }).waitFor();
  equal(await page.locator('tbody tr').count(), 1000, 'a thousand keys are listed');
  note(`a thousand keys: ${Math.round(performance.now() - started)} ms`);
  started = performance.now();
  await page.getByLabel('Search').fill('key 500');
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1);
  note(`a search among them: ${Math.round(performance.now() - started)} ms`);
  await page.getByRole('img', { name: /^138,.* uses|^[0-9,]+ uses, [0-9]+ refused in 30 days$/ }).waitFor();
  started = performance.now();
  await page.goto(`${url}#/${orgId}/keys/${keyId}?days=30`);
  await page.getByRole('img', { name: /^Uses by hour: 138,[0-9]+ uses accepted/ }).waitFor();
  await page.getByRole('heading', { name: 'Used from a new address' }).waitFor();
  note(`the longest history: ${Math.round(performance.now() - started)} ms`);
  await page.getByRole('region', { name: 'Uses by address' }).getByText('198.51.100.64').waitFor();
  check(true, 'the longest history is shown');
  await browser.look('longest history');
}

async function signOut() {
  await button('Sign out').click();
  await browser.heading('Sign in');
  equal(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage })), '{}', 'signing out leaves nothing');
}

try {
  await database.connect();
  const first = await signUp();
  await storeSecret(first);
  await useKey(first);
  await nowhere(first.secret, 'after signing up');
  const revoked = await byKeyboard();
  await afterRevocation(revoked);
  await history(first);
  await filters();
  equal(browser.takeComplaints(), '', 'keys: no complaint');
  await troubles(first.org_id);
  await rotation(await features(first.org_id));
  await organization();
  const [{ uid }] = await sql('SELECT uid FROM overten_list_members($1)', first.org_id);
  await largest(uid);
  await signOut();
  equal(browser.takeComplaints(), '', 'at the end: no complaint');
  const foreign = browser.requests.filter((each) => ![new URL(url).origin, process.env.IDENTITY].includes(new URL(each.url).origin) &&
    !/^(?:data|blob):/.test(each.url));
  equal(foreign.map((each) => each.url).join('\n'), '', 'nobody else was asked');
  note('finished');
} catch (error) {
  check(false, 'the dashboard can be used to the end', `${error.stack}\n${browser.complaints.join('\n')}\n${await page.locator('body').innerText().catch(() => '')}`);
} finally {
  await browser.close();
  await database.end();
}
