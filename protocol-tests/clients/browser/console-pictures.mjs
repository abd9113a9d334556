// Takes the pictures of the console in docs/images, of a busy server with real clients: `npm run console-pictures`.
//
// Debian's package fonts-inter gives them a face like that of most systems; without it they are taken with the default one.

import { createServer } from 'node:http';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setInterval as every, setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { openBrowser } from '../lib/chat.mjs';
import { openSdk, subscribed } from '../lib/clients.mjs';
import { logIn, PASSWORD } from '../lib/console.mjs';
import { openSlowClient } from '../lib/slow.mjs';
import { Stage } from '../lib/stage.mjs';
import { until } from '../lib/waiting.mjs';

const PICTURES = fileURLToPath(new URL('../../../docs/images', import.meta.url));
const MAX_BYTES = 150 * 1024;
/** The time that the plots of the overview show. */
const RECORDED_MS = 65_000;
const APP = { id: 'shop', key: 'shop-key', secret: 'a-secret-of-the-pictures' };
const DESKTOP = { viewport: { width: 1180, height: 720 } };
const PHONE = { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const OURS = { key: APP.key };
const NAMES = ['ada', 'bruno', 'chiara', 'dmitri', 'elena', 'farid', 'greta', 'hugo', 'ines', 'jonas', 'katya', 'luis', 'maria', 'nils'];
const ORDERS = [1042, 1043, 1047, 1051, 1058];

const stage = new Stage();
const fonts = await fontsFolder();
let browser;
let isOver = false;
try {
  browser = await openBrowser({ env: { ...process.env, FONTCONFIG_FILE: join(fonts, 'fonts.conf') } });
  await mkdir(PICTURES, { recursive: true });
  await takePictures(await busyServer());
} finally {
  isOver = true;
  await browser?.close();
  await stage.clear();
  await rm(fonts, { recursive: true });
}

async function takePictures({ server, room, socketId }) {
  const light = await logIn(browser, server, { ...DESKTOP, colorScheme: 'light', locale: 'en-GB' });
  const dark = await logIn(browser, server, { ...DESKTOP, colorScheme: 'dark', locale: 'en-GB' });
  const phone = await logIn(browser, server, { ...PHONE, colorScheme: 'light', locale: 'en-GB' });
  const app = `#/apps/${APP.id}`;
  for (const window of [light, dark, phone]) {
    // The navigation keeps the app that was looked at last.
    await window.goTo(`${app}/channels`);
    await window.goTo('#/overview');
  }
  await delay(RECORDED_MS);
  await save('overview', await light.page.screenshot());
  await save('overview-dark', await dark.page.screenshot());
  const phones = [await phone.page.screenshot()];
  for (const [name, hash, wait_ms] of [
    ['channels', `${app}/channels`, 2500], ['channel', `${app}/channels/${encodeURIComponent(room)}`, 9000],
    ['connection', `${app}/connections/${socketId}`, 6000],
    ['closed', `${app}/connections?show=closed`, 2500], ['authorizations', `${app}/authorizations`, 500],
    ['webhooks', `${app}/webhooks`, 500], ['configuration', '#/configuration', 500],
  ]) {
    if (name === 'closed') await overflowSlowClient(server, light, hash);
    await Promise.all([light, dark, phone].map((window) => window.goTo(hash)));
    await delay(wait_ms);
    await Promise.all([light, dark].map(({ page }) => page.mouse.move(0, 0)));
    await save(name, await (['channel', 'authorizations', 'configuration'].includes(name) ? dark : light).page.screenshot());
    if (['channel', 'closed'].includes(name)) phones.push(await phone.page.screenshot());
  }
  await save('phone', await sideBySide(phones));
  await Promise.all([light, dark, phone].map((window) => window.close()));
}

async function save(name, picture) {
  if (picture.length > MAX_BYTES) throw new Error(`console-${name}.png has ${picture.length} bytes, at most ${MAX_BYTES} are allowed`);
  await writeFile(join(PICTURES, `console-${name}.png`), picture);
}

async function sideBySide(pictures) {
  const page = await (await browser.newContext()).newPage();
  const images = pictures.map((picture) => `<img src="data:image/png;base64,${picture.toString('base64')}" width="300">`);
  await page.setContent(`<style>
    body { margin: 0; display: inline-flex; gap: 20px; padding: 20px; background: #dfe5e7; }
    img { display: block; border-radius: 14px; box-shadow: 0 4px 18px #10202a30; }
  </style>${images.join('')}`);
  return page.locator('body').screenshot();
}

/** A server with a room of members, orders, prices, webhooks, and clients that make mistakes. */
async function busyServer() {
  const endpoint = await startEndpoint();
  const server = await stage.serverAmong({ 'config.toml': configuration(endpoint) });
  const sdk = openSdk(server, APP);
  const backend = await stage.backend(sdk);
  const room = 'presence-room.lobby';
  const members = await Promise.all(NAMES.map(async (user, at) => {
    const pusher = stage.pusher(server, { ...OURS, backend, user });
    await Promise.all([room, 'news', `private-user.${user}`, `private-orders.${ORDERS[at % ORDERS.length]}`].map((name) => subscribed(pusher.subscribe(name))));
    return pusher;
  }));
  for (let at = 0; at < 120; at += 1) {
    const pusher = stage.pusher(server, { ...OURS, backend, user: `guest-${at}` });
    await subscribed(pusher.subscribe(['ticker', 'news', 'cache-prices', `private-orders.${ORDERS[at % ORDERS.length]}`][at % 4]));
  }
  await mistakes(server);
  keepBusy({ server, sdk, backend, members, room }).catch((error) => { if (!isOver) throw error; });
  return { server, room, socketId: members[2].connection.socket_id };
}

/** A client with a stale key, one whose application signs with another secret, and one that signs without the channel data. */
async function mistakes(server) {
  const sdk = openSdk(server, APP);
  stage.pusher(server, { key: 'key-of-staging' });
  const otherSecret = openSdk(server, { ...APP, secret: 'secret-of-staging' });
  const forgets = ({ user, socketId, channel }) => {
    const { auth } = sdk.authorizeChannel(socketId, channel);
    return { auth, channel_data: JSON.stringify({ user_id: user, user_info: { name: 'Otto' } }) };
  };
  const backends = [await stage.backend(otherSecret), await stage.backend(sdk, { authorize: forgets })];
  const channels = ['private-orders.1042', 'presence-room.lobby'];
  for (const [at, backend] of backends.entries()) {
    await subscribed(stage.pusher(server, { ...OURS, backend, user: 'otto' }).subscribe(channels[at])).catch(() => {});
  }
}

/** A client that does not read what is published to its channel. */
async function overflowSlowClient(server, window, hash) {
  const sdk = openSdk(server, APP);
  const socketId = await openSlowClient(stage, server, 'exports', APP.key);
  await window.goTo(hash);
  // It is closed when more waits than the system buffers for it.
  await until('a slow client that is closed', async () => {
    await Promise.all(Array.from({ length: 100 }, () => sdk.trigger('exports', 'rows', 'x'.repeat(8_000))));
    return window.main.getByText(socketId).isVisible();
  }, 60_000);
}

/** Publishes with a rate that swings, and lets guests come to the room and go, until all pictures are taken. */
async function keepBusy({ server, sdk, backend, members, room }) {
  let turn = 0;
  const guests = [];
  for await (const _ of every(100)) {
    if (isOver) return;
    turn += 1;
    const busy = 4 + 3 * Math.sin(turn / 60) + 2 * Math.random();
    for (let number = 0; number < busy; number += 1) {
      await sdk.trigger('ticker', 'price', { symbol: 'ACME', price: (100 + 5 * Math.random()).toFixed(2) });
    }
    if (turn % 7 === 0) await sdk.trigger('cache-prices', 'App\\Events\\PricesChanged', { prices: { ACME: 104.2, BELL: 12.75 } });
    if (turn % 11 === 0) await sdk.trigger(`private-orders.${ORDERS[turn % ORDERS.length]}`, 'App\\Events\\OrderShipped', { order: { id: ORDERS[turn % ORDERS.length], status: 'shipped' } });
    if (turn % 13 === 0) await sdk.trigger(room, 'App\\Events\\MessageSent', { author: NAMES[turn % NAMES.length], text: 'Who takes the late shift in the tower today?' });
    if (turn % 17 === 0) members[turn % members.length].channel(room).trigger('client-typing', { typing: true });
    if (turn % 31 === 0) guests.push(stage.pusher(server, { ...OURS, backend, user: `visitor-${turn}` }).subscribe(room));
    if (turn % 83 === 0) guests.shift()?.pusher.disconnect();
  }
}

/** An endpoint of webhooks that rejects each fifth request. */
async function startEndpoint() {
  let requests = 0;
  const http = createServer((request, response) => {
    request.resume().on('end', () => {
      requests += 1;
      response.writeHead(requests % 5 === 3 ? 500 : 204).end();
    });
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  stage.closing({ close: () => { http.close(); http.closeAllConnections(); } });
  return `http://127.0.0.1:${http.address().port}/webhooks/campanile`;
}

function configuration(endpoint) {
  const app = { ...APP, console_payloads: true };
  const pairs = (values) => Object.entries(values).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
  return [
    '[server]', 'shutdown_grace_s = 2', '[connection]', 'max_outbox_bytes = 131_072', '[console]', `password = "${PASSWORD}"`,
    '[[apps]]', ...pairs(app), '[[apps.webhooks]]', `url = "${endpoint}"`, 'events = ["channel_occupied", "channel_vacated", "member_added", "member_removed"]',
    '[[apps]]', ...pairs({ id: 'backoffice', key: 'backoffice-key', secret: 'backoffice-secret' }), '',
  ].join('\n');
}

/** A configuration of fontconfig in which Inter is the default, if it is there. */
async function fontsFolder() {
  const folder = await mkdtemp(join(tmpdir(), 'campanile-fonts-'));
  const prefer = (family) => `<match target="pattern"><test name="family"><string>${family}</string></test>`
    + '<edit name="family" mode="prepend" binding="strong"><string>Inter</string></edit></match>';
  await writeFile(join(folder, 'fonts.conf'), `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>
    <include ignore_missing="yes">/etc/fonts/fonts.conf</include>${['sans-serif', 'system-ui'].map(prefer).join('')}</fontconfig>`);
  return folder;
}
