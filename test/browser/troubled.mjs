// troubled.mjs URL PICTURES: use the dashboard there while something is wrong, hostile,
// slow or very large.  PG* names the database behind it, for its superuser, and PG_CTL,
// PGDATA and PGLOG are what stops and starts its server; IDENTITY is where people sign in.

import { largest } from './largest.mjs';
import { limits, pagesOfLimits } from './limits.mjs';
import { part, run } from './person.mjs';
import {
  databaseAway, distantExpiry, endedSession, hostileNames, lateSecrets, limitsNotCounted, signUp, slowNetwork, troubles,
  twoTabs, unverified,
} from './troubles.mjs';

await run(async () => {
  await part(unverified);
  const first = await part(signUp);
  const { org_id: orgId, uid } = first;

  await part(limits, first);
  await part(troubles, orgId);
  await part(slowNetwork, orgId);
  await part(lateSecrets, orgId);
  await part(distantExpiry, orgId);
  await part(hostileNames, orgId);
  await part(twoTabs, orgId);
  await part(largest, uid);
  await part(pagesOfLimits);
  await part(limitsNotCounted, orgId);
  await part(databaseAway, orgId);
  await part(endedSession, orgId);
});
