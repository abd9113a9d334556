// The rooms and their latest messages, in memory.

import { HttpError } from './http.mjs';

class Room {
  #messages = [];
  #last = 0;

  constructor(name, topic, locked = false) {
    Object.assign(this, { name, topic, locked });
  }

  add(from, text) {
    const clean = typeof text === 'string' ? text.trim() : '';
    if (!clean || clean.length > Rooms.MAX_TEXT) {
      throw new HttpError(422, `A message has 1 to ${Rooms.MAX_TEXT} characters.`);
    }
    const message = { id: this.#last += 1, from, text: clean, at: new Date().toISOString() };
    this.#messages = [...this.#messages, message].slice(-Rooms.MAX_MESSAGES);
    return message;
  }

  remove(message) {
    this.#messages = this.#messages.filter((other) => other !== message);
  }

  /** The messages after the message `id`: all of them for a new member, or those missed by another. */
  after(id) {
    return this.#messages.filter((message) => message.id > id);
  }
}

export class Rooms {
  static MAX_TEXT = 1_000;
  static MAX_MESSAGES = 200;

  #rooms = new Map(Object.entries({
    piazza: new Room('Piazza', 'Everybody meets here'),
    cloister: new Room('Cloister', 'For quieter talk'),
    belfry: new Room('Belfry', 'Keyholders only: nobody is let in', true),
  }));

  list() {
    return [...this.#rooms].map(([id, { name, topic, locked }]) => ({ id, name, topic, locked }));
  }

  /** The room; fails if it is locked or does not exist. */
  open(id) {
    const room = this.#rooms.get(id);
    if (!room || room.locked) throw new HttpError(403, 'This room is locked.');
    return room;
  }
}
