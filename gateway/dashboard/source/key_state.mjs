// What a key is at the moment, and which keys a list shows.

import { DAY, distance } from './times.mjs';

// When we begin to warn that a key expires.
const WARNING = 14 * DAY;

// How long a key was not used to be called unused, in days.
export const UNUSED_DAYS = 90;

// The status of a key: its kind, and words.  Services that do not offer more than the
// basics do not name it.
export function statusOf(key, now = Date.now()) {
  const kind = key.status ?? (key.revoked_at === null ? 'active' : 'revoked');
  const left = key.expires_at ? new Date(key.expires_at) - now : Infinity;

  if (kind === 'active' && left < WARNING) {
    return { kind: 'expiring', text: `expires ${distance(key.expires_at, now)}` };
  }
  return { kind, text: kind };
}

export function isRevoked(key) {
  return key.revoked_at !== null;
}

export function isUnused(key, now = Date.now()) {
  return new Date(key.last_used_at ?? key.created_at) < now - UNUSED_DAYS * DAY;
}

// Can the key not be used any more, whatever its members do?
export function isOver(key) {
  return isRevoked(key) || key.status === 'expired';
}

// The keys that a person has asked for, the newest first.
export function filtered(keys, { status, unused, search }) {
  const text = (search ?? '').trim().toLowerCase();

  return keys.filter((key) =>
    (!status || (key.status ?? statusOf(key).kind) === status) &&
    (!unused || isUnused(key)) &&
    (!text || `${key.name}\n${key.prefix}\n${key.key_id}`.toLowerCase().includes(text))).reverse();
}
