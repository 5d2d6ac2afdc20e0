// From signing up to the first request.

import child from 'node:child_process';
import { promisify } from 'node:util';

import { check, equal, note } from './browser.mjs';
import {
  answerOf, browser, button, downloadBy, link, page, row, url,
} from './person.mjs';

const execFile = promisify(child.execFile);

// In milliseconds, the best of some loads.  The machine may be so busy that nothing comes
// within a second; then a line of text from the same gateway takes long, too.
const FIRST_SCREEN = 1000;
const TIMES_A_LINE = 4;
const LOADS = 5;

export async function firstScreen() {
  let best = Infinity;
  let line = Infinity;
  let limit = FIRST_SCREEN;

  for (let loads = 0; loads < LOADS && best >= limit; loads++) {
    best = Math.min(best, await browser.firstLoad(url, (where) => where.getByRole('heading', { level: 1, name: 'Sign in' })));
    line = Math.min(line, await browser.firstLoad(new URL('/healthz', url).href, (where) => where.locator('body')));
    limit = Math.max(FIRST_SCREEN, TIMES_A_LINE * line);
  }
  note(`first screen: ${best} ms`);
  check(best < limit, 'the first screen comes within a second', `${best} ms, where ${limit} ms are allowed`);
}

export async function signUp() {
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

export async function storeSecret({ secret, webhook_secret: webhookSecret }) {
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
  equal(await downloadBy(() => button('Download as .env file').click()), `overten.env: OVERTEN_API_KEY=${secret}\n`, 'it can be downloaded');

  const asked = new Promise((resolve) => page.once('dialog', async (dialog) => {
    await dialog.dismiss();
    resolve(dialog.type());
  }));
  // Nobody is asked if the page is loaded again.
  const left = page.reload().then(() => 'the page was left', () => asked);
  equal(await Promise.race([asked, left]), 'beforeunload', 'the browser asks before the page is left');
  await page.evaluate(() => { location.hash = '#/'; });
  await browser.heading('Store the secret of “primary”');
  check(true, 'another place does not lose the secret');
  await button('I have stored it').click();
}

export async function useKey({ secret, org_id: orgId, key_id: keyId }) {
  await browser.heading('The first request');
  await page.getByText('Waiting for the first request').waitFor();
  await browser.look('waiting');
  const commands = await page.locator('pre').allTextContents();
  // As in a shell: the second command is pasted when the first one has read the secret.
  const { stdout } = await execFile('bash', ['-c', commands.join(' <<<"$1"\n'), 'bash', secret], { env: { ...process.env, no_proxy: '*' } });
  equal(JSON.parse(stdout).org_id, orgId, 'the key is used as the screen says');
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
