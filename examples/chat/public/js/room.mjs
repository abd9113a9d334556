// A room: two channels and their events.
//
// `presence-room.X` provides the list of members, and carries client events that need no application server: typing
// (a whisper) and read receipts. On a presence channel, Campanile adds the sender's user id, so clients can't send
// these events in the name of another user.
// `private-room.X` carries the messages, and only the server publishes them.

import { get, post } from './api.mjs';
import { Receipts } from './receipts.mjs';
import { Typing } from './typing.mjs';

export class Room {
  #echo;
  #view;
  #me;
  #members = new Map();
  #last = 0;
  #left = false;
  /** The socket id at the latest subscription. */
  #socketId;

  constructor(echo, view, me, room, again) {
    Object.assign(this, { id: room.id, name: `room.${room.id}`, again });
    this.#echo = echo;
    this.#view = view;
    this.#me = me;
    view.enter(room);
    this.#enter();
  }

  /** Sends a message. It is shown at once, and marked when its delivery has succeeded or failed. */
  async say(text) {
    this.typing.stop();
    await this.#deliver(this.#view.draft(this.#me, text), text);
  }

  /** The user has changed the draft, which may be empty. */
  writes(text) {
    if (text.trim()) this.typing.start();
    else this.typing.stop();
  }

  leave() {
    this.#left = true;
    this.typing.end();
    this.receipts.end();
    this.#echo.leave(this.name);
  }

  #enter() {
    // Answers that arrive after the user has left the room are ignored.
    const hearing = (act) => (...values) => this.#left || act(...values);
    const refused = hearing((error) => this.#refused(error));
    this.present = this.#echo.join(this.name)
      .here(hearing((members) => this.#arrive(members)))
      .joining(hearing((member) => {
        this.#members.set(member.id, member);
        this.#showMembers();
        this.receipts.repeat();
      }))
      .leaving(hearing((member) => {
        this.#members.delete(member.id);
        this.typing.forget(member.id);
        this.#showMembers();
      }))
      .error(refused);
    this.messages = this.#echo.private(this.name)
      .listen('.message.sent', hearing((message) => this.#hear([message])))
      .listen('.campanile:gap', hearing(() => this.#catchUp()))
      .subscribed(hearing(() => this.#subscribed()))
      .error(refused);
    this.typing = new Typing(this.present, (ids) => this.#view.typing(this.#names(ids)));
    this.receipts = new Receipts(this.present, (reads) => this.#view.receipts(this.#readers(reads)));
  }

  /** The list of members arrives with each subscription, so it is correct after each reconnection. */
  #arrive(members) {
    this.#members = new Map(members.map((member) => [member.id, member]));
    this.#showMembers();
    this.receipts.repeat();
  }

  /** With the socket id of before, Campanile sends what was missed. */
  #subscribed() {
    const known = this.#socketId;
    this.#socketId = this.#echo.socketId();
    if (this.#socketId !== known) this.#catchUp();
  }

  /** Fetches messages that were sent before the subscription, or that Campanile no longer has. */
  async #catchUp() {
    try {
      const { messages } = await get(`/rooms/${this.id}/messages?after=${this.#last}`);
      if (!this.#left) this.#hear(messages);
    } catch (error) {
      if (!this.#left) this.#refused(error);
    }
  }

  /** Access was denied. The application keeps sessions in memory, so it may have lost this one. */
  async #refused(error) {
    const known = error.status !== 403 || await get('/config').then(({ me }) => me, () => true);
    if (!this.#left) this.#view.refused(error, known, this.again);
  }

  #hear(messages) {
    for (const message of messages) {
      this.#last = Math.max(this.#last, message.id);
      const mine = message.from.id === this.#me.id;
      this.#view.message(message, mine);
      this.typing.forget(message.from.id);
      if (!mine) this.receipts.seen(message.id);
    }
    this.receipts.show();
  }

  async #deliver(draft, text) {
    try {
      const message = await post(`/rooms/${this.id}/messages`, { text }, { 'X-Socket-Id': this.#echo.socketId() ?? '' });
      this.#view.delivered(draft, message);
      this.receipts.show();
    } catch (error) {
      this.#view.failed(draft, error.message, () => this.#deliver(draft, text));
    }
  }

  #showMembers() {
    this.#view.members([...this.#members.values()], this.#me);
  }

  #names(ids) {
    return ids.flatMap((id) => this.#members.get(id)?.name ?? []);
  }

  #readers(reads) {
    const here = [...reads].filter(([id]) => this.#members.has(id));
    return here.map(([id, message]) => ({ name: this.#members.get(id).name, message }));
  }
}
