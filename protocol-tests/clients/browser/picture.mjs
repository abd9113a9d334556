// Takes the picture in the chat's README, two windows side by side: `npm run picture`.

import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { openBrowser, openWindow, startChat } from '../lib/chat.mjs';
import { Server } from '../lib/server.mjs';

const PICTURE = fileURLToPath(new URL('../../../examples/chat/chat.png', import.meta.url));
const SHARPNESS = 1.5;
const WINDOW = { viewport: { width: 660, height: 500 }, deviceScaleFactor: SHARPNESS, locale: 'en-GB' };

const server = await Server.start();
const chat = await startChat(server);
const browser = await openBrowser();
try {
  const chiara = await openWindow(browser, chat.url, 'Chiara', { ...WINDOW, colorScheme: 'light' });
  const matteo = await openWindow(browser, chat.url, 'Matteo', { ...WINDOW, colorScheme: 'dark' });
  await talk(chiara, matteo);
  await writeFile(PICTURE, await framed(await chiara.page.screenshot(), await matteo.page.screenshot()));
} finally {
  await browser.close();
  await chat.close();
  await server.stop();
  await server.removeFolder();
}

async function talk(chiara, matteo) {
  await chiara.sees(chiara.member('Matteo'));
  await matteo.sees(matteo.member('Chiara'));
  const lines = [
    [chiara, matteo, 'Good morning! Is the tower open today?'],
    [matteo, chiara, 'Until six. At noon all five bells ring 🔔'],
    [matteo, chiara, 'Bring ear plugs, it is loud up there.'],
    [chiara, matteo, 'Then let us meet at a quarter to.'],
  ];
  for (const [author, reader, text] of lines) {
    await author.say(text);
    await reader.sees(reader.message(text));
  }
  await chiara.sees(chiara.messages.getByText('Seen by Matteo'));
  await matteo.composer.pressSequentially('I will keep the');
  await chiara.sees(chiara.typing.getByText('Matteo is typing'));
}

/** Both pictures in window frames on one page. */
async function framed(...pictures) {
  const windows = pictures.map((picture) => `<figure><header><i></i><i></i><i></i></header>
    <img src="data:image/png;base64,${picture.toString('base64')}" width="${WINDOW.viewport.width}"></figure>`);
  const page = await (await browser.newContext({ deviceScaleFactor: SHARPNESS })).newPage();
  await page.setContent(`<style>
    body { margin: 0; display: inline-flex; gap: 28px; padding: 30px; background: #d9c7ae; }
    figure { margin: 0; border-radius: 12px; overflow: hidden; box-shadow: 0 10px 30px #3b24124d; }
    header { display: flex; gap: 8px; padding: 10px 14px; background: #a98f70; }
    figure + figure header { background: #3a2f26; }
    i { width: 11px; height: 11px; border-radius: 50%; background: #ffffff66; }
    img { display: block; }
  </style>${windows.join('')}`);
  return page.locator('body').screenshot();
}
