// Reading one key.

import { get } from './api.mjs';

export function pathOf(org, keyId) {
  return `/organizations/${org.org_id}/api-keys/${encodeURIComponent(keyId)}`;
}

// The key, or undefined if there is none.  Services that do not offer more than the
// basics only list keys.
export async function readKey(org, keyId, features) {
  if (!features.any) {
    const { items } = await get(`/organizations/${org.org_id}/api-keys`);

    return items.find((each) => each.key_id === keyId);
  }
  try {
    return await get(pathOf(org, keyId));
  } catch (error) {
    if (error.code === 'key_not_found') {
      return undefined;
    }
    throw error;
  }
}
