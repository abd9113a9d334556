// Typing indicators: whispers, sent at intervals and shown for a limited time.

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

  /** Announces that the user is typing, at intervals far below the server's limit of ten events a second. */
  start() {
    if (!this.#channel.subscription.subscribed || Date.now() - this.#whispered < AGAIN_MS) return;
    this.#whispered = Date.now();
    this.#channel.whisper('typing', {});
  }

  /** Announces that the user has stopped typing. */
  stop() {
    if (!this.#whispered || !this.#channel.subscription.subscribed) return;
    this.#whispered = 0;
    this.#channel.whisper('idle', {});
  }

  /** Hides the indicator of a member that has sent a message, left, or stopped. */
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
