// The application server of the tests: it authorizes clients like Laravel, with the same two paths.

import { createServer } from 'node:http';
import { once } from 'node:events';

/** The error that a test's policy throws to reject a request. */
export class Denied extends Error {
  constructor(status = 403) {
    super(`refused with ${status}`);
    this.status = status;
  }
}

/**
 * Starts an application server that signs with `sdk`.
 *
 * The client names its user in the header `X-User`, instead of a session. A policy is a function of
 * `{ user, socketId, channel }` that returns the answer's JSON or throws [`Denied`].
 */
export async function startBackend(sdk, policies = {}) {
  const routes = {
    '/broadcasting/auth': policies.authorize ?? (({ user, socketId, channel }) => {
      const member = channel.startsWith('presence-') ? memberOf(user) : undefined;
      return sdk.authorizeChannel(socketId, channel, member);
    }),
    '/broadcasting/user-auth': policies.authenticate
      ?? (({ user, socketId }) => sdk.authenticateUser(socketId, { id: user, user_info: { name: nameOf(user) } })),
  };
  const http = createServer(async (request, response) => {
    const answer = await answerTo(routes[request.url], request);
    response.writeHead(answer.status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(answer.body));
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const url = `http://127.0.0.1:${http.address().port}`;
  return {
    authEndpoint: `${url}/broadcasting/auth`,
    userAuthEndpoint: `${url}/broadcasting/user-auth`,
    close: () => { http.close(); http.closeAllConnections(); },
  };
}

/** The presence data of a user: `ann` is shown as `Ann`. */
export function memberOf(user) {
  return { user_id: user, user_info: { name: nameOf(user) } };
}

function nameOf(user) {
  return user[0].toUpperCase() + user.slice(1);
}

async function answerTo(policy, request) {
  const form = new URLSearchParams(await bodyOf(request));
  const asked = {
    user: request.headers['x-user'],
    socketId: form.get('socket_id'),
    channel: form.get('channel_name'),
  };
  try {
    return policy ? { status: 200, body: policy(asked) } : { status: 404, body: {} };
  } catch (error) {
    return { status: error.status ?? 500, body: { message: error.message } };
  }
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}
