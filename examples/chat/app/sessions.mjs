// The sessions, in memory: a restart of the chat signs all users out.

import { randomUUID } from 'node:crypto';

import { HttpError } from './http.mjs';

export class Sessions {
  static MAX_NAME = 24;
  static MAX_SESSIONS = 1_000;
  static MESSAGES_PER_10_S = 20;

  #users = new Map();
  #sent = new WeakMap();

  /** Creates a session; if there are too many, the oldest one ends. */
  open(name) {
    const clean = typeof name === 'string' ? name.trim().replace(/\s+/g, ' ') : '';
    if (!clean || clean.length > Sessions.MAX_NAME) {
      throw new HttpError(422, `A name has 1 to ${Sessions.MAX_NAME} characters.`);
    }
    if (this.#users.size >= Sessions.MAX_SESSIONS) this.#users.delete(this.#users.keys().next().value);
    const token = randomUUID();
    const user = { id: randomUUID().slice(0, 8), name: clean, hue: hueOf(clean) };
    this.#users.set(token, user);
    return { token, user };
  }

  find(token) {
    return this.#users.get(token);
  }

  close(token) {
    this.#users.delete(token);
  }

  /** Counts a message of `user`, and rejects it if there were too many recently. */
  spend(user) {
    const since = Date.now() - 10_000;
    const sent = (this.#sent.get(user) ?? []).filter((time) => time > since);
    if (sent.length >= Sessions.MESSAGES_PER_10_S) throw new HttpError(429, 'Slowly, please.');
    this.#sent.set(user, [...sent, Date.now()]);
  }
}

/** A colour derived from a name. */
function hueOf(name) {
  let sum = 0;
  for (const letter of name) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return sum;
}
