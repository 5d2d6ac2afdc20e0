// What can go wrong between a person and the service.

import child from 'node:child_process';
import { promisify } from 'node:util';

import { check, equal } from './browser.mjs';
import {
  answerOf, api, browser, button, connect, link, nowhere, page, posts, row, signIn, sql, url, verify, visit,
} from './person.mjs';

const execFile = promisify(child.execFile);

// Stop or start the server behind the service.
function control(...command) {
  return execFile(process.env.PG_CTL, ['-D', process.env.PGDATA, '-s', '-w', '-m', 'fast', '-l', process.env.PGLOG, ...command]);
}

// Time for the page to do what it must not.
function moment() {
  return page.evaluate(() => new Promise((resolve) => { setTimeout(resolve, 300); }));
}

// A service that takes only people whose email address is verified.
export async function unverified() {
  await page.goto(url);
  await browser.heading('Sign in');
  await button('Create an account').click();
  await page.getByLabel('Email address').fill('grace@example.com');
  await page.getByLabel('Password').fill('first-compiler');
  await button('Create an account').click();
  await page.getByText('Verify your email address first').waitFor();
  await browser.look('verify the address');
  await page.getByLabel('Name of the organization').fill('Acme Docs');
  await button('Sign up').click();
  await page.locator('form').first().getByRole('alert').getByText('Verify your email address first').waitFor();
  browser.expectComplaints('403 (Forbidden)');
  await button('I have opened the link').click();
  await page.getByText('The link has not been opened yet.').waitFor();
  await button('Send the email').click();
  await page.getByText('An email with a link is on its way.').waitFor();
  const { oobCodes: [letter] } = await (await fetch(`${process.env.IDENTITY}/emulator/v1/projects/demonstration/oobCodes`)).json();
  await fetch(letter.oobLink);
  await button('I have opened the link').click();
  await page.getByText('You can sign up.').waitFor();
  check(true, 'a person verifies the address');
}

// Sign up, for one of two plans.
export async function signUp() {
  const answer = await answerOf(async () => {
    await page.getByLabel('Plan').selectOption('startup');
    await button('Sign up').click();
  });

  await button('I have stored it').click();
  await link('Later: to the keys').click();
  await row(/primary/).waitFor();
  equal(await verify(answer.secret), 200, 'the first key');
  const [{ uid, tier }] = await sql('SELECT uid, tier FROM overten_auth.members JOIN overten_auth.orgs USING (org_id) WHERE org_id = $1', answer.org_id);
  equal(tier, 'startup', 'the plan is the one that was chosen');
  return { ...answer, uid };
}

// A token that the API refuses is replaced once, and a request without an answer is
// repeated, and then the person is told.
export async function troubles(orgId) {
  let spoiled = 0;

  equal(browser.takeComplaints(), '', 'before the troubles: no complaint');
  await page.route(`${api}/**`, async (route) => {
    spoiled++;
    await route.continue({ headers: { ...route.request().headers(), authorization: 'Bearer a.b.c' } });
  }, { times: 1 });
  await page.reload();
  await page.getByRole('row', { name: /primary/ }).waitFor();
  equal(spoiled, 1, 'a token that is refused is replaced');
  equal(browser.takeComplaints('401 (Unauthorized)'), '', 'a new token: no other complaint');

  await browser.context.setOffline(true);
  await link('Usage').click();
  await page.getByText('The service cannot be reached.').waitFor();
  await browser.look('unreachable');
  await browser.context.setOffline(false);
  await button('Try again').click();
  await page.getByRole('img', { name: /^Uses by day/ }).waitFor();
  browser.expectComplaints('ERR_INTERNET_DISCONNECTED');

  const [other] = await sql("SELECT org_id FROM overten_create_org('Others')");
  for (const hash of [`#/${other.org_id}/keys`, `#/${orgId}/nowhere`, `#/${orgId}/keys/x/y`, '#/%zz', `#/${orgId}/keys/key_unknown`]) {
    await page.evaluate((place) => { location.hash = place; }, hash);
    await (hash === '#/%zz' ? browser.heading('Keys')
      : page.getByText(hash.includes('key_unknown') ? 'This key does not exist.' : 'There is nothing here').waitFor());
    browser.expectComplaints('404 (Not Found)');
  }
  check(true, 'places that are not there');
  await lostAnswers(orgId);
}

// The answers to a POST are lost, and the person asks again.
async function lostAnswers(orgId) {
  const before = posts('/api-keys').length;

  await visit(orgId, 'keys/new');
  await page.getByLabel('Name').fill('lost');
  await page.route(`${api}/organizations/${orgId}/api-keys`, async (route) => {
    await route.fetch();
    await route.abort('connectionreset');
  });
  await button('Create the key').click();
  await page.getByText('The service cannot be reached.').waitFor();
  await page.unrouteAll({ behavior: 'wait' });
  await button('Create the key').click();
  await browser.heading('Store the secret of “lost”');
  const names = posts('/api-keys').slice(before).map(({ headers }) => headers['idempotency-key']);
  equal(names.length, 4, 'a POST without an answer is sent three times, and again when the person says so');
  equal(new Set(names).size, 1, 'under one name');
  const keys = await sql("SELECT key_id FROM overten_auth.api_keys WHERE org_id = $1 AND name = 'lost' AND revoked_at IS NULL", orgId);
  equal(keys.length, 1, 'so there is one key');
  await button('I have stored it').click();
  await browser.heading('lost');
  browser.expectComplaints('ERR_CONNECTION_RESET');
}

// On a slow network people see that something is going on, and cannot do it twice.
export async function slowNetwork(orgId) {
  let open;
  const hold = () => {
    const gate = new Promise((resolve) => { open = resolve; });

    return page.route(`${api}/**`, async (route) => {
      await gate;
      await route.continue();
    });
  };
  const release = () => {
    open();
    return page.unrouteAll({ behavior: 'wait' });
  };

  await visit(orgId, 'members');
  await browser.heading('Members');
  await hold();
  await visit(orgId, 'keys');
  await page.getByText('Loading the keys…').waitFor();
  await browser.look('loading');
  await visit(orgId, 'usage');
  await page.getByText('Loading the usage…').waitFor();
  await release();
  await page.getByRole('img', { name: /^Uses by day/ }).waitFor();
  equal(await page.getByRole('heading', { level: 1 }).textContent(), 'Usage', 'answers for a screen that was left change nothing');
  const months = await page.getByLabel('Month').locator('option').allTextContents();
  await hold();
  await page.getByLabel('Month').selectOption(months[1]);
  await page.getByText('Loading the usage…').waitFor();
  equal(await page.getByRole('img', { name: /^Uses by day/ }).count(), 0, 'the uses of one month are not shown for another');
  await release();
  await page.getByText('There was no use in this month.').waitFor();

  await visit(orgId, 'keys/new');
  await page.getByLabel('Name').fill('slow');
  await hold();
  const before = posts('/api-keys').length;
  await button('Create the key').dblclick();
  await page.locator('button[aria-disabled=true]').getByText('Create the key').waitFor();
  await button('Create the key').click({ force: true });
  await page.keyboard.press('Enter');
  await release();
  await browser.heading('Store the secret of “slow”');
  equal(posts('/api-keys').length - before, 1, 'a button that is clicked again and again acts once');
  await button('I have stored it').click();
  await browser.heading('slow');
  await lateAnswer(orgId);
}

// An answer comes after one that was asked for later.
async function lateAnswer(orgId) {
  const invitations = `${api}/organizations/${orgId}/invitations`;
  const isList = (response) => response.url() === invitations && response.request().method() === 'GET';
  const nobody = page.getByText('Nobody is invited at the moment.');
  let late;
  const held = new Promise((resolve) => { late = resolve; });

  await visit(orgId, 'members');
  await nobody.waitFor();
  await page.route(invitations, async (route) => {
    if (route.request().method() !== 'GET' || late === undefined) {
      await route.continue();
      return;
    }
    const keep = late;
    late = undefined;
    const response = await route.fetch();
    keep(() => route.fulfill({ response }));
  });
  await button('Invite').click();
  const release = await held;
  await sql('SELECT overten_withdraw_invitation(org_id, invitation_id) FROM overten_auth.invitations WHERE org_id = $1', orgId);
  const [second] = await Promise.all([page.waitForResponse(isList), button('I have sent it').click()]);
  await second.finished();
  const [first] = await Promise.all([page.waitForResponse(isList), release()]);
  check((await first.json()).items.length === 1, 'a late answer has what was withdrawn');
  await moment();
  equal(await nobody.count(), 1, 'it does not replace the later one');
  await page.unrouteAll({ behavior: 'wait' });
}

// Keep the answers to the POSTs of a URL.  Returns what gives the next one that has come:
// its body, and the function that lets it go to the page.
async function keepAnswers(where) {
  const kept = [];
  const waiting = [];

  await page.route(where, async (route) => {
    if (route.request().method() !== 'POST') {
      await route.continue();
      return;
    }
    const response = await route.fetch();
    const answer = { body: await response.json(), release: () => route.fulfill({ response }) };

    if (waiting.length > 0) {
      waiting.shift()(answer);
    } else {
      kept.push(answer);
    }
  });
  return () => (kept.length > 0 ? kept.shift() : new Promise((resolve) => { waiting.push(resolve); }));
}

// A person leaves the screen before the answer with the secret has come, and asks for
// another one: each is kept until it is stored, and shown only when that is asked for.
export async function lateSecrets(orgId) {
  const next = await keepAnswers(`${api}/organizations/${orgId}/api-keys`);
  const answers = [];

  for (const name of ['first', 'second']) {
    await visit(orgId, 'keys/new');
    await page.getByLabel('Name').fill(name);
    await button('Create the key').click();
    answers.push(await next());
    await link('Cancel').click();
    await browser.heading('Keys');
  }
  const [first, second] = answers;
  const isShown = async ({ body }) => (await page.content()).includes(body.secret);

  await first.release();
  await browser.heading('Store the secret of “first”');
  await button('Show the secret').click();
  check(await isShown(first), 'a secret that comes after Cancel is not lost');
  await Promise.all([page.waitForResponse((response) => response.request().method() === 'POST'), second.release()]);
  await moment();
  check(await isShown(first), 'it stays when another one comes');
  check(!await isShown(second), 'which nobody has asked to see');
  await page.unrouteAll({ behavior: 'wait' });
  await button('I have stored it').click();
  await browser.heading('Store the secret of “second”');
  equal(`${await isShown(first)} ${await isShown(second)}`, 'false false', 'that one comes next, and is not shown before it is asked for');
  await button('Show the secret').click();
  check(await isShown(second), 'and then it is');
  await button('I have stored it').click();
  await browser.heading('second');
  for (const { body: { secret } } of answers) {
    await nowhere(secret, 'after late secrets');
  }
  await lateWebhookSecrets(orgId, first.body.key_id, second.body.secret);
}

// Likewise with webhook secrets, of which only the latest is good.
async function lateWebhookSecrets(orgId, keyId, secret) {
  const before = posts('/webhook-secret/rotate').length;
  const next = await keepAnswers(`${api}/organizations/${orgId}/webhook-secret/rotate`);
  const replace = async () => {
    await visit(orgId, 'keys', keyId, 'leaked');
    await button('Replace the webhook secret now').click();
    await page.locator('button[aria-disabled=true]').getByText('Replace the webhook secret now').waitFor();
  };

  await replace();
  const first = await next();
  await link('Back to the key').click();
  await browser.heading('first');
  await replace();
  await moment();
  equal(posts('/webhook-secret/rotate').length - before, 1, 'a webhook secret is replaced again only when the last answer is there');
  await first.release();
  await browser.heading('Store the new webhook secret');
  await button('Show the webhook secret').click();
  const second = await next();
  await Promise.all([page.waitForResponse((response) => response.request().method() === 'POST'), second.release()]);
  await moment();
  await page.unrouteAll({ behavior: 'wait' });
  await page.getByText(first.body.webhook_secret, { exact: true }).waitFor();
  await button('I have stored it').click();
  await page.getByText(first.body.webhook_secret, { exact: true }).waitFor({ state: 'detached' });
  check(!(await page.content()).includes(second.body.webhook_secret), 'nor is the next webhook secret shown unasked');
  await button('Show the webhook secret').click();
  const { webhook_secret: good } = await (await fetch(`${api}/verify`, { headers: { Authorization: `Bearer ${secret}` } })).json();
  await page.getByText(good, { exact: true }).waitFor();
  check(true, 'the last one that is shown is the one that counts');
  await button('I have stored it').click();
  await browser.heading('“first” has leaked');
  await nowhere(good, 'after late webhook secrets');
}

// An expiry that the browser's clock does not reach, and that only the table's owner can set.
export async function distantExpiry(orgId) {
  const [{ key_id: keyId }] = await sql("SELECT key_id FROM overten_mint_key($1, 'distant')", orgId);

  await sql("UPDATE overten_auth.api_keys SET expires_at = '290000-01-01 00:00Z' WHERE key_id = $1", keyId);

  await visit(orgId, 'keys', keyId);
  await browser.heading('distant');
  await page.locator('dl').getByText('290000-01-01T00:00:00Z', { exact: true }).waitFor();
  await link('Change…').click();
  await page.getByText('as now: 290000-01-01T00:00:00Z').waitFor({ state: 'attached' });
  check(true, 'a time that the browser cannot read is shown as it came');
  await sql('SELECT overten_revoke_key($1, $2)', orgId, keyId);
}

// Names are text, whatever is in them.
export async function hostileNames(orgId) {
  const names = ['<img src=x onerror=alert(1)>', '"><script>alert(1)</script>', '${alert(1)}{{1+1}}', '__proto__', 'constructor', '&lt;b&gt;',
    "'; DROP TABLE x;--", 'W'.repeat(64), 'مفتاح', '👩‍👩‍👧‍👦'.repeat(5), '../../../etc'];
  let asked = 0;
  const count = async (dialog) => {
    asked++;
    await dialog.dismiss();
  };

  page.on('dialog', count);
  await sql("SELECT count(*) FROM unnest($2::text[]) n, LATERAL overten_mint_key($1, n, expires_at => now() + interval '30 days') k", orgId, names);
  await sql('SELECT overten_rename_org($1, $2)', orgId, '<b onclick=alert(1)>Acme</b>');
  await visit(orgId, 'keys');
  await page.reload();
  await browser.heading('Keys');
  await row(/etc/).waitFor();
  const shown = await page.locator('tbody th a').allTextContents();
  equal(names.filter((name) => !shown.includes(name)).join('\n'), '', 'hostile names are shown as they are');
  await browser.look('hostile names');
  for (const name of names.slice(0, 3)) {
    await link(name).click();
    await browser.heading(name);
    await button('Revoke…').click();
    await page.getByRole('dialog').getByRole('heading', { name: `Revoke “${name}”` }).waitFor();
    await button('Cancel').click();
    await link('All keys').click();
  }
  await visit(orgId, 'audit-log');
  await page.getByRole('region', { name: 'Audit log' }).getByText('rename org').waitFor();
  equal(asked, 0, 'and are never run');
  page.off('dialog', count);
  await sql('SELECT overten_rename_org($1, $2)', orgId, 'Acme Docs');
  await sql('SELECT overten_revoke_key(org_id, key_id) FROM overten_auth.api_keys WHERE org_id = $1 AND name = ANY ($2)', orgId, names);
  await page.reload();
}

// A person with two tabs: each has its session, and sees what the other has done.
export async function twoTabs(orgId) {
  const [{ key_id: keyId, secret }] = await sql("SELECT key_id, secret FROM overten_mint_key($1, 'shared')", orgId);
  const place = `${url}#/${orgId}/keys/${keyId}`;

  await visit(orgId, 'keys', keyId);
  await browser.heading('shared');
  await button('Rotate…').click();
  const other = await browser.newTab();
  await other.goto(place);
  await other.getByRole('heading', { level: 1, name: 'Sign in' }).waitFor();
  check(true, 'another tab is not signed in');
  await signIn(other, 'grace@example.com');
  await other.getByRole('heading', { level: 1, name: 'shared' }).waitFor();
  await other.getByRole('button', { name: 'Revoke…' }).click();
  await other.getByLabel('Type the name of the key').fill('shared');
  await other.getByRole('button', { name: 'Revoke for good' }).click();
  await other.getByText('Revoked “shared”.').waitFor();
  equal(await verify(secret), 401, 'the other tab revokes a key');
  await button('Rotate').click();
  await page.getByText('This key is not active any more').waitFor();
  browser.expectComplaints('409 (Conflict)');
  await button('Cancel').click();
  await button('Revoke…').click();
  await page.getByLabel('Type the name of the key').fill('shared');
  await button('Revoke for good').click();
  await page.getByText('Revoked “shared”.').waitFor();
  await page.locator('dl .status.revoked').waitFor();
  equal(await button('Revoke…').count() + await button('Rotate…').count(), 0, 'revoking it again is no error, and the first tab shows that it is revoked');
  await other.getByRole('button', { name: 'Sign out' }).click();
  await other.getByRole('heading', { level: 1, name: 'Sign in' }).waitFor();
  await other.close();
  await link('All keys').click();
  await browser.heading('Keys');
  await row(/primary/).waitFor();
  await page.getByText(/^\d+ revoked keys$/).click();
  equal(await row(/shared/).locator('.status').getAttribute('class'), 'status revoked', 'so does its list');
  check(true, 'signing out in one tab leaves the other one');
}

// The server does not count limits, and then does.
export async function limitsNotCounted(orgId) {
  await visit(orgId, 'members');
  await browser.heading('Members');
  await sql("ALTER SYSTEM SET overten_auth.databases = ''");
  await control('restart');
  await connect();
  await visit(orgId, 'limits');
  await page.getByText('Limits cannot be counted on this server at the moment.').waitFor();
  await browser.look('limits not counted');
  await sql('ALTER SYSTEM RESET overten_auth.databases');
  await control('restart');
  await connect();
  await button('Try again').click();
  await row(/all keys together 50 a month/).waitFor();
  check(true, 'limits that are counted again');
  browser.expectComplaints('503 (Service Unavailable)');
}

// The database goes away, and comes back.
export async function databaseAway(orgId) {
  await visit(orgId, 'members');
  await browser.heading('Members');
  await control('stop');
  await visit(orgId, 'keys');
  await page.getByText('The service is not available at the moment.').waitFor();
  await browser.look('database away');
  browser.expectComplaints('503 (Service Unavailable)');
  await control('start');
  await connect();
  await button('Try again').click();
  await row(/primary/).waitFor();
  check(true, 'after the database has come back, all goes on');
  browser.expectComplaints('503 (Service Unavailable)');

  // One connection breaks: nobody sees that.
  await visit(orgId, 'members');
  await browser.heading('Members');
  let failed = 0;
  await page.route(`${api}/**`, async (route) => {
    failed++;
    await route.abort('connectionreset');
  }, { times: 1 });
  await visit(orgId, 'usage');
  await page.getByText('By key').waitFor();
  equal(failed, 1, 'a request without an answer is repeated');
  browser.expectComplaints('ERR_CONNECTION_RESET');
}

// A person's sign-in has ended while the page is open: the account is gone, or another
// device has set a new password.
export async function endedSession(orgId) {
  const spoil = () => page.route(`${api}/**`, (route) =>
    route.continue({ headers: { ...route.request().headers(), authorization: 'Bearer a.b.c' } }));
  const accounts = `${process.env.IDENTITY}/identitytoolkit.googleapis.com/v1/accounts`;
  const ask = async (operation, body) => (await fetch(`${accounts}:${operation}?key=any`, { method: 'POST', body: JSON.stringify(body) })).json();

  await fetch(`${process.env.IDENTITY}/emulator/v1/projects/demonstration/accounts`, { method: 'DELETE' });
  await spoil();
  await visit(orgId, 'hygiene');
  await page.getByText('Your sign-in has ended. Sign out, and sign in again.').waitFor();
  check(true, 'who has no account any more is told');
  await browser.look('account gone');
  browser.expectComplaints('401 (Unauthorized)', '400 (Bad Request)');
  await button('Sign out').click();
  await browser.heading('Sign in');
  equal(await page.evaluate(() => sessionStorage.length), 0, 'and can sign out');
  await page.unroute(`${api}/**`);

  const { idToken } = await ask('signUp', { email: 'grace@example.com', password: 'first-compiler' });
  await signIn(page, 'grace@example.com');
  await browser.heading('Sign up for the API');
  await ask('update', { idToken, password: 'second-compiler' });
  await spoil();
  await page.reload();
  await browser.heading('Sign in');
  check(true, 'who has a new password has to sign in again');
  await page.unroute(`${api}/**`);
  browser.expectComplaints('401 (Unauthorized)', '400 (Bad Request)');
}
