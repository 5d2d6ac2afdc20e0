// Reading what is left of the limits of an organization and of its keys.

import { ApiError, get } from './api.mjs';
import { rfc3339 } from './times.mjs';

// How many keys a page is about; the largest page of the API is for finding one key.
const PAGE = 50;
const LONG_PAGE = 200;

async function readPage(org, cursor, limit) {
  const after = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;

  try {
    const page = await get(`/organizations/${org.org_id}/limits?limit=${limit}${after}`);

    return {
      ...page,
      items: page.items.map((item) => ({ ...item, full_at: rfc3339(Date.now() + item.reset_seconds * 1000) })),
    };
  } catch (error) {
    throw error.status === 503 ? new ApiError(503, { code: 'limits_not_counted' }) : error;
  }
}

// Read page after page into "items", until "isEnough" or the last one.
async function readUntil(isEnough, org, cursor, limit) {
  const items = [];
  let next = cursor;

  do {
    const page = await readPage(org, next, limit);

    items.push(...page.items);
    next = page.next_cursor;
  } while (next !== null && !isEnough(items));
  return { items, next_cursor: next };
}

// The limits after a cursor, or from the beginning if that is null, and the next cursor.
// There is at least one limit, or no more; a page of the API can be about keys without.
export function readLimits(org, cursor) {
  return readUntil((items) => items.length > 0, org, cursor, PAGE);
}

// The limits that count for a key: its own, and those that the keys of the organization
// share.
export async function readLimitsOfKey(org, keyId) {
  const { items } = await readUntil((read) => read.some((each) => each.key_id === keyId), org, null, LONG_PAGE);

  return items.filter((each) => each.key_id === null || each.key_id === keyId);
}
