// The application: sessions, access to rooms, and messages.
//
// Two functions use Campanile: `authorize` signs a client's subscription to a channel, and `publish` sends a message to
// all members of a room except for its author.

import { createServer } from 'node:http';

import { filesFor } from './files.mjs';
import { HttpError, cookieOf, formOf, jsonOf, secured, sendFile, sendJson } from './http.mjs';
import { Rooms } from './rooms.mjs';
import { Sessions } from './sessions.mjs';

const COOKIE = 'campanile_chat';
const SOCKET_ID = /^\d+\.\d+$/;

export function createChat({ campanile, sdk }) {
  const sessions = new Sessions();
  const rooms = new Rooms();
  const files = filesFor();

  const routes = {
    'GET /config': (request) => ({
      me: sessions.find(cookieOf(request, COOKIE)) ?? null,
      rooms: rooms.list(),
      limits: { name: Sessions.MAX_NAME, text: Rooms.MAX_TEXT },
      campanile: { key: campanile.key, host: campanile.host, port: campanile.port, tls: campanile.useTLS },
    }),

    'POST /login': async (request, response) => {
      const { name } = await jsonOf(request);
      const { token, user } = sessions.open(name);
      response.setHeader('Set-Cookie', `${COOKIE}=${token}; HttpOnly; SameSite=Strict; Path=/`);
      return user;
    },

    'POST /logout': (request, response) => {
      sessions.close(cookieOf(request, COOKIE));
      response.setHeader('Set-Cookie', `${COOKIE}=; Max-Age=0; HttpOnly; SameSite=Strict; Path=/`);
      return {};
    },

    'POST /broadcasting/auth': async (request) => {
      const user = signedIn(request);
      const form = await formOf(request);
      return authorize(user, form.get('channel_name') ?? '', form.get('socket_id') ?? '');
    },

    'GET /rooms/:room/messages': (request, response, { room, query }) => {
      signedIn(request);
      return { messages: rooms.open(room).after(Number(query.get('after') ?? 0)) };
    },

    'POST /rooms/:room/messages': async (request, response, { room }) => {
      const user = signedIn(request);
      const { text } = await jsonOf(request);
      sessions.spend(user);
      const message = rooms.open(room).add(user, text);
      await publish(room, message, request.headers['x-socket-id']);
      return message;
    },
  };

  /** Signs the subscription of this user, on this connection, to a channel. Other channels are rejected. */
  function authorize(user, channel, socketId) {
    const [, kind, room] = /^(private|presence)-room\.([a-z-]+)$/.exec(channel) ?? [];
    if (!kind || !SOCKET_ID.test(socketId)) throw new HttpError(403, 'There is no such channel.');
    rooms.open(room);
    const member = { user_id: user.id, user_info: user };
    return sdk.authorizeChannel(socketId, channel, kind === 'presence' ? member : undefined);
  }

  /**
   * Sends a message to the room. The author's own connection is excluded, like with Laravel's `toOthers()`: the
   * author receives the message in the answer to the request.
   */
  async function publish(room, message, socketId) {
    const others = SOCKET_ID.test(socketId ?? '') ? { socket_id: socketId } : {};
    try {
      await sdk.trigger(`private-room.${room}`, 'message.sent', message, others);
    } catch (error) {
      // An error means that no client has received the message, except after code 5031 or a broken
      // connection.
      rooms.open(room).remove(message);
      console.error(error.status ? `Campanile rejected a message with ${error.status}` : 'Campanile did not answer');
      throw new HttpError(503, 'It was not sent.');
    }
  }

  function signedIn(request) {
    const user = sessions.find(cookieOf(request, COOKIE));
    if (!user) throw new HttpError(403, 'You are not signed in.');
    return user;
  }

  async function answer(request, response) {
    secured(request, response, campanile);
    const { pathname, searchParams: query } = new URL(request.url, 'http://chat');
    const file = request.method === 'GET' && files.get(pathname);
    if (file) return sendFile(response, file);
    const [, room] = /^\/rooms\/([a-z-]+)\/messages$/.exec(pathname) ?? [];
    const route = routes[`${request.method} ${room ? '/rooms/:room/messages' : pathname}`];
    if (!route) throw new HttpError(404, 'There is nothing here.');
    return sendJson(response, 200, await route(request, response, { room, query }));
  }

  return createServer((request, response) => {
    answer(request, response).catch((error) => {
      if (!(error instanceof HttpError)) console.error(error);
      if (response.headersSent) return response.destroy();
      const { status, message } = error instanceof HttpError ? error : { status: 500, message: 'Something went wrong.' };
      return sendJson(response, status, { message });
    });
  });
}
