// google.mjs URL PICTURES: sign in with Google to the dashboard there, by a popup of the
// identity service; first while Google cannot be reached.

import fs from 'node:fs';

import { check, equal } from './browser.mjs';
import { browser, button, page, run, url } from './person.mjs';

const GOOGLE = 'https://apis.google.com';
const SCRIPT = fs.readFileSync(new URL('google_api.js', import.meta.url), 'utf8');

const isGoogle = (each) => each.origin === GOOGLE;

// Click, and return the window that opens.
async function popup() {
  const [opened] = await Promise.all([browser.context.waitForEvent('page'), button('Sign in with Google').click()]);

  await opened.getByRole('heading', { name: 'Sign in with Google' }).waitFor();
  return opened;
}

await run(async () => {
  await browser.context.route(isGoogle, (route) => route.abort());
  await page.goto(url);
  await browser.heading('Sign in');
  await button('Sign in with Google').waitFor();
  await browser.look('sign in with google');
  await button('Sign in with Google').click();
  await page.getByText('The sign-in service cannot be reached.').waitFor();
  check(browser.requests.some((each) => each.url.startsWith(`${GOOGLE}/js/api.js`)), "Google's script is asked for");
  equal(browser.takeComplaints('ERR_FAILED'), '', 'the policy allows it');

  await browser.context.unroute(isGoogle);
  await browser.context.route(isGoogle, (route) => route.fulfill({ contentType: 'text/javascript', body: SCRIPT }));
  const closed = await popup();
  await closed.close();
  await page.getByText('The window of the sign-in was closed. Try again.').waitFor();
  const opened = await popup();
  equal(new URL(opened.url()).origin, process.env.IDENTITY, 'the popup is of the identity service');
  await opened.getByLabel('Email address').fill('hopper@example.com');
  await Promise.all([opened.waitForEvent('close'), opened.getByRole('button', { name: 'Sign in' }).click()]);
  await browser.heading('Sign up for the API');
  await page.getByText('hopper@example.com').waitFor();
  check(true, 'who has signed in there is signed in here, and the popup is closed');
  await page.getByLabel('Name of the organization').fill('Acme Docs');
  await button('Sign up').click();
  await browser.heading('Store the secret of “primary”');
  check(true, 'and the API takes the token');
  equal(browser.takeComplaints(), '', 'no complaint');
}, GOOGLE);
