// google.mjs URL PICTURES: try to sign in with Google to the dashboard there, where
// Google cannot be reached.

import { check, equal } from './browser.mjs';
import { browser, button, page, run, url } from './person.mjs';

const GOOGLE = 'https://apis.google.com';

await run(async () => {
  await page.route((each) => each.origin !== new URL(url).origin, (route) => route.abort());
  await page.goto(url);
  await browser.heading('Sign in');
  await button('Sign in with Google').waitFor();
  await browser.look('sign in with google');
  await button('Sign in with Google').click();
  await page.getByText('The sign-in service cannot be reached.').waitFor();
  check(browser.requests.some((each) => each.url.startsWith(`${GOOGLE}/js/api.js`)), "Google's script is asked for");
  equal(browser.takeComplaints('ERR_FAILED'), '', 'the policy allows it');
}, GOOGLE);
