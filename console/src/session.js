// The session of the console, over HTTP. All addresses are relative to the page, which may be behind any path.

/** A rejected request, with a sentence for the user. */
export class Rejected extends Error {
  constructor(status, message, retryAfter_s = 0) {
    super(message);
    this.status = status;
    this.retryAfter_s = retryAfter_s;
  }
}

/** The session, or null if a password is needed. */
export async function readSession() {
  const response = await fetch('session', { cache: 'no-store' });
  if (response.status === 401) return null;
  return answer(response);
}

/** Logs in. `app` is the id of the app if its own password is used. */
export async function logIn(password, app) {
  const body = JSON.stringify(app ? { password, app } : { password });
  return answer(await fetch('login', { method: 'POST', headers: { 'content-type': 'application/json' }, body }));
}

export async function logOut(csrf) {
  await fetch('logout', { method: 'POST', headers: { 'x-csrf-token': csrf } });
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const waits = Number(response.headers.get('retry-after')) || 0;
  throw new Rejected(response.status, body.error ?? `The server answered ${response.status}.`, waits);
}
