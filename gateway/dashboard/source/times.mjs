// Times in words, in the person's own time zone and in UTC.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const UNITS = [[DAY, 'day'], [HOUR, 'hour'], [MINUTE, 'minute']];
const words = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const local = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'short' });

// Can we read a time?  PostgreSQL has years after 9999, whose ISO form is another one here.
export function isReadable(time) {
  return !Number.isNaN(new Date(time).getTime());
}

// How far a time is from now, such as "3 minutes ago" or "in 6 days".  Seconds count
// only if it is still to come.
export function distance(time, now = Date.now()) {
  if (!isReadable(time)) {
    return String(time);
  }
  const difference = new Date(time) - now;
  const [unit, name] = UNITS.find(([each]) => Math.abs(difference) >= each)
    ?? (difference >= SECOND ? [SECOND, 'second'] : []);

  return name === undefined ? 'just now' : words.format(Math.trunc(difference / unit), name);
}

// A time that we cannot read stays as it came.
export function exact(time) {
  if (!isReadable(time)) {
    return String(time);
  }
  return `${local.format(new Date(time))} (${new Date(time).toISOString().slice(0, 16).replace('T', ' ')} UTC)`;
}

// As the API takes it.
export function rfc3339(milliseconds) {
  return new Date(milliseconds).toISOString().replace(/\.\d+/, '');
}
