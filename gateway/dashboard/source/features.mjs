// What the service offers.  What it does not offer is not shown.

import { get } from './api.mjs';

const KEY_FEATURES = ['expiry', 'disable', 'scopes', 'addresses', 'people', 'details', 'environments', 'rotation'];

// The features of keys by name, "any" of them, and what else people can choose.
export async function readFeatures() {
  const offer = await get('/features');
  const on = KEY_FEATURES.map((name) => [name, offer.key_features.includes(name)]);

  return {
    ...Object.fromEntries(on),
    any: offer.key_features.length > 0,
    environmentChoices: offer.environments,
    scopeChoices: offer.scopes,
    tierChoices: offer.tiers,
    // In milliseconds.
    longestLife: offer.max_key_lifetime_seconds === null ? Infinity : offer.max_key_lifetime_seconds * 1000,
    needsVerifiedEmail: offer.verified_email_required,
    credits: offer.credits,
  };
}
