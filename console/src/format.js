// Numbers, sizes and times as text.

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const ONE_DIGIT = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const TWO_DIGITS = new Intl.NumberFormat('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const NONE = '–';

/** A whole number with separators: `12,345`. */
export function count(value) {
  return isNumber(value) ? WHOLE.format(value) : NONE;
}

/** A rate, with a decimal place if it is small: `0.4`, `12`, `12,345`. */
export function rate(value) {
  if (!isNumber(value)) return NONE;
  return value > 0 && value < 9.95 ? ONE_DIGIT.format(value) : WHOLE.format(value);
}

/** A number for an axis or a large figure: `1.2k`, `3.4M`. */
export function short(value) {
  if (!isNumber(value)) return NONE;
  for (const [unit, letter] of [[1e9, 'G'], [1e6, 'M'], [1e4, 'k']]) {
    if (Math.abs(value) >= unit) {
      const scaled = value / (letter === 'k' ? 1e3 : unit);
      return `${scaled < 100 && scaled % 1 ? ONE_DIGIT.format(scaled) : WHOLE.format(scaled)}${letter}`;
    }
  }
  return Number.isInteger(value) ? WHOLE.format(value) : rate(value);
}

/** A size in binary units: `1.5 KiB`. */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  let scaled = value;
  let unit = 0;
  while (scaled >= 1000 && unit < BYTE_UNITS.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  const text = unit === 0 || scaled >= 99.95 ? WHOLE.format(scaled) : ONE_DIGIT.format(scaled);
  return `${text} ${BYTE_UNITS[unit]}`;
}

/** Milliseconds: `0.12 ms`, `4.2 ms`, `1.3 s`. */
export function milliseconds(value) {
  if (!isNumber(value)) return NONE;
  if (value === 0) return '< 1 ms';
  if (value >= 1000) return `${ONE_DIGIT.format(value / 1000)} s`;
  if (value >= 100) return `${WHOLE.format(value)} ms`;
  return value < 1 ? `${TWO_DIGITS.format(value)} ms` : `${ONE_DIGIT.format(value)} ms`;
}

/** Seconds in the two largest units: `3 d 4 h`, `5 min 20 s`. */
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const units = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];
  const whole = Math.max(0, Math.floor(seconds));
  const first = units.findIndex(([, length]) => whole >= length);
  if (first < 0) return '0 s';
  const parts = units.slice(first, first + 2).map(([name, length], at) => {
    const number = at === 0 ? Math.floor(whole / length) : Math.floor((whole % units[first][1]) / length);
    return { name, number };
  });
  return parts.filter(({ number }, at) => at === 0 || number > 0).map(({ name, number }) => `${number} ${name}`).join(' ');
}

/** A share of one CPU: `0.42`. */
export function cores(value) {
  return isNumber(value) ? TWO_DIGITS.format(value) : NONE;
}

/** The local time of day, with the date if it is another day: `14:03:07`. */
export function clock(ms, now_ms = Date.now()) {
  const date = new Date(ms);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  const isToday = date.toDateString() === new Date(now_ms).toDateString();
  return isToday ? time : `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}

/** The exact time with the offset from UTC: `2026-01-31 14:03:07.123 +01:00`. */
export function exact(ms) {
  const date = new Date(ms);
  const offset = -date.getTimezoneOffset();
  const sign = offset < 0 ? '−' : '+';
  const zone = `${sign}${two(Math.floor(Math.abs(offset) / 60))}:${two(Math.abs(offset) % 60)}`;
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, '0')}`;
  return `${day} ${time} ${zone}`;
}

/** `1 connection`, `2 connections`. */
export function plural(number, singular, several = `${singular}s`) {
  return `${count(number)} ${number === 1 ? singular : several}`;
}

/** A text with a capital at its beginning. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A message of the server as a sentence of its own. */
export function sentence(text) {
  const first = capital(text);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/** JSON with indentation if the text is an object or an array, and the text itself otherwise. */
export function pretty(text) {
  if (typeof text !== 'string') return JSON.stringify(text, null, 2);
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}

function two(number) {
  return String(number).padStart(2, '0');
}
