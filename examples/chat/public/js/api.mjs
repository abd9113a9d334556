// Requests to the application server.

/** A request that was rejected, or failed: then the status is 0. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const get = (path) => ask(path, {});

export function post(path, body, headers = {}) {
  const json = { 'Content-Type': 'application/json' };
  return ask(path, { method: 'POST', headers: { ...json, ...headers }, body: JSON.stringify(body) });
}

async function ask(path, request) {
  const response = await fetch(path, request).catch(() => {
    throw new Refused(0, 'The chat does not answer.');
  });
  const value = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, value.message ?? 'That did not work.');
  return value;
}
