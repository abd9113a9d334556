// Who is typing: whispers, sent sparingly and believed for a short while.

const AGAIN_MS = 1_500;
const BELIEVED_MS = 4_000;

export class Typing {
  #channel;
  #show;
  #timers = new Map();
  #whispered = 0;

  constructor(channel, show) {
    this.#channel = channel;
    this.#show = show;
    channel.listenForWhisper('typing', (_, { user_id }) => this.#begin(user_id));
    channel.listenForWhisper('idle', (_, { user_id }) => this.forget(user_id));
  }

  /** We type. Said again now and then while it goes on, far below the server's limit of ten a second. */
  start() {
    if (!this.#channel.subscription.subscribed || Date.now() - this.#whispered < AGAIN_MS) return;
    this.#whispered = Date.now();
    this.#channel.whisper('typing', {});
  }

  /** We do not type any more. */
  stop() {
    if (!this.#whispered || !this.#channel.subscription.subscribed) return;
    this.#whispered = 0;
    this.#channel.whisper('idle', {});
  }

  /** Somebody has sent the message, has left, or has stopped. */
  forget(id) {
    clearTimeout(this.#timers.get(id));
    if (this.#timers.delete(id)) this.#show([...this.#timers.keys()]);
  }

  end() {
    this.#timers.forEach(clearTimeout);
    this.#timers.clear();
    this.#show([]);
  }

  #begin(id) {
    clearTimeout(this.#timers.get(id));
    this.#timers.set(id, setTimeout(() => this.forget(id), BELIEVED_MS));
    this.#show([...this.#timers.keys()]);
  }
}
