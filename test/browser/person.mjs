// A person with a browser before the dashboard, and what the tests know of the service
// behind it.  PG* names its database, for a superuser.

import { createRequire } from 'node:module';

import { Browser, TIMEOUT, check, equal, note } from './browser.mjs';

const { default: pg } = await import(createRequire(new URL('../../gateway/', import.meta.url)).resolve('pg'));

export const [url, pictures] = process.argv.slice(2);
export const api = new URL('/api/v1', url).href;
export const browser = await Browser.open(pictures);
export const { page } = browser;

let database;

export async function connect() {
  database = new pg.Client();
  // The server may go away in the middle.
  database.on('error', () => {});
  await database.connect();
}

export async function sql(text, ...values) {
  const { rows } = await database.query(text, values);

  return rows;
}

export function button(name) {
  return page.getByRole('button', { name, exact: true });
}

export function link(name) {
  return page.getByRole('link', { name, exact: true });
}

export function row(name) {
  return page.getByRole('row', { name });
}

export function region(name) {
  return page.getByRole('region', { name, exact: true });
}

// The text or the id of what has the focus; a heading begins with "# ", for links can have
// the same text.
const FOCUSED = `{
  const { tagName, textContent, id } = document.activeElement;
  (tagName === 'H1' ? '# ' : '') + (textContent || id);
}`;

function focused() {
  return page.evaluate(FOCUSED);
}

// Something has the focus, or gets it now.
export async function focusIs(name, what) {
  const limit = performance.now() + TIMEOUT;

  while (await focused() !== name && performance.now() < limit) {
    await page.waitForTimeout(20);
  }
  equal(await focused(), name, what);
}

// Press Tab until something with this text or id has the focus.
export async function tabTo(name) {
  const limit = performance.now() + TIMEOUT;

  while (await focused() !== name) {
    if (performance.now() > limit) {
      throw new Error(`the keyboard does not reach "${name}"`);
    }
    await page.keyboard.press('Tab');
  }
}

export async function verify(secret) {
  const { status } = await fetch(`${api}/verify`, { headers: { Authorization: `Bearer ${secret}` } });

  return status;
}

// Do what makes the API answer with a secret; returns that answer.
export async function answerOf(act) {
  const [response] = await Promise.all([
    page.waitForResponse((each) => each.request().method() === 'POST' && each.url().startsWith(api) && each.status() === 201),
    act(),
  ]);

  return response.json();
}

// The posts of the API since the beginning, by path.
export function posts(part) {
  return browser.requests.filter((each) => each.method === 'POST' && each.url.startsWith(api) && each.url.includes(part));
}

// Go to a place, as by a link in a message.
export async function visit(...words) {
  await page.evaluate((hash) => { location.hash = hash; }, `#/${words.join('/')}`);
}

// What a download has, as "NAME: CONTENT".
export async function downloadBy(act) {
  const [download] = await Promise.all([page.waitForEvent('download'), act()]);
  const chunks = await (await download.createReadStream()).toArray();

  return `${download.suggestedFilename()}: ${Buffer.concat(chunks)}`;
}

export async function signIn(where, email) {
  await where.getByLabel('Email address').fill(email);
  await where.getByLabel('Password').fill('first-compiler');
  await where.getByRole('button', { name: 'Sign in', exact: true }).click();
}

export async function nowhere(secret, what) {
  check(!(await browser.traces()).includes(secret), `${what}: the secret is nowhere in the page, what it keeps and what it has sent`);
  const holding = await browser.remembered(secret);
  equal(holding.map((text) => text.replaceAll(secret, '…')).join('\n'), '', `${what}: nor in its memory`);
}

let last = performance.now();

// Run a part of a test, and note how long it took.
export async function part(act, ...values) {
  const result = await act(...values);
  const now = performance.now();

  note(`${act.name}: ${Math.round(now - last)} ms`);
  last = now;
  return result;
}

// Run a test to its end: all checks, and that nobody was asked but the gateway, the
// identity service and "others".
export async function run(test, ...others) {
  const origins = [new URL(url).origin, process.env.IDENTITY, ...others];

  try {
    await connect();
    await test();
    equal(browser.takeComplaints(), '', 'at the end: no complaint');
    const foreign = browser.requests.filter((each) => !origins.includes(new URL(each.url).origin) && !/^(?:data|blob):/.test(each.url));
    equal(foreign.map((each) => each.url).join('\n'), '', 'nobody else was asked');
    note('finished');
  } catch (error) {
    check(false, 'the dashboard can be used to the end', `${error.stack}\n${browser.complaints.join('\n')}\n${(await page.locator('body').innerText().catch(() => '')).slice(0, 4000)}`);
  } finally {
    await browser.close();
    await database?.end().catch(() => {});
  }
}
