// HTTP helpers of the chat.

import { readFile } from 'node:fs/promises';

const MAX_BODY_BYTES = 16_384;

/** An error response, with a message for the user. */
export class HttpError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Sets security headers, and rejects changes that are requested by other sites. */
export function secured(request, response, campanile) {
  const socket = `${campanile.useTLS ? 'wss' : 'ws'}://${campanile.host}:${campanile.port}`;
  response.setHeader('Content-Security-Policy', [
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
    `connect-src 'self' ${socket}`, "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
  ].join('; '));
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('Referrer-Policy', 'no-referrer');
  response.setHeader('Cache-Control', 'no-store');
  const { origin, host } = request.headers;
  if (request.method !== 'GET' && origin !== undefined && origin.replace(/^https?:\/\//, '') !== host) {
    throw new HttpError(403, 'This was asked by another site.');
  }
}

export function cookieOf(request, name) {
  const pairs = (request.headers.cookie ?? '').split(';').map((pair) => pair.trim().split('='));
  return pairs.find(([key]) => key === name)?.[1];
}

/** Parses the body as a JSON object. */
export async function jsonOf(request) {
  if (!request.headers['content-type']?.startsWith('application/json')) throw new HttpError(415, 'Send JSON.');
  try {
    const value = JSON.parse(await bodyOf(request));
    if (value && typeof value === 'object') return value;
  } catch (error) {
    if (error instanceof HttpError) throw error;
  }
  throw new HttpError(400, 'That is not a JSON object.');
}

/** Parses the body as a form, the format of pusher-js for the authorization endpoint. */
export async function formOf(request) {
  return new URLSearchParams(await bodyOf(request));
}

export function sendJson(response, status, value) {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(value));
}

export async function sendFile(response, { path, type }) {
  const content = await readFile(path);
  response.writeHead(200, { 'Content-Type': type });
  response.end(content);
}

async function bodyOf(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new HttpError(413, 'That is too long.');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
