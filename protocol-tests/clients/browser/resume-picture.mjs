// Takes the picture in docs/resume.md, of the chat catching up: `npm run resume-picture`.

import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { startFaults } from '../../resume/lib/faults.mjs';
import { openBrowser, openWindow, startChat } from '../lib/chat.mjs';
import { Server } from '../lib/server.mjs';

const PICTURE = fileURLToPath(new URL('../../../docs/images/resume-chat.png', import.meta.url));
const MAX_BYTES = 150 * 1024;
const WINDOW = { viewport: { width: 560, height: 430 }, locale: 'en-GB' };

const server = await Server.start();
const proxy = await startFaults(server);
const chat = await startChat(proxy);
const browser = await openBrowser();
try {
  const chiara = await openWindow(browser, chat.url, 'Chiara', { ...WINDOW, colorScheme: 'light' });
  const matteo = await openWindow(browser, chat.url, 'Matteo', { ...WINDOW, colorScheme: 'dark' });
  await talk(chiara, matteo, ['Is the tower open today?']);
  await talk(matteo, chiara, ['Until six. I take the train now.']);
  await matteo.goOffline(proxy);
  await chiara.sees(chiara.connection.getByText('Connected'));
  await talk(chiara, chiara, ['Change of plan: at noon all five bells ring', 'So let us meet at a quarter to.', 'Bring ear plugs!']);
  const asleep = await matteo.page.screenshot();
  await matteo.comeBack();
  await matteo.sees(matteo.message('Bring ear plugs!'));
  await chiara.sees(chiara.messages.getByText('Seen by Matteo'));
  const picture = await sideBySide([['Matteo, in a tunnel', asleep], ['Matteo, a second after it', await matteo.page.screenshot()]]);
  if (picture.length > MAX_BYTES) throw new Error(`the picture has ${picture.length} bytes, at most ${MAX_BYTES} are allowed`);
  await writeFile(PICTURE, picture);
} finally {
  await browser.close();
  await chat.close();
  proxy.close();
  await server.stop();
  await server.removeFolder();
}

async function talk(author, reader, lines) {
  for (const text of lines) {
    await author.say(text);
    await reader.sees(reader.message(text));
  }
}

async function sideBySide(pictures) {
  const page = await (await browser.newContext()).newPage();
  const figures = pictures.map(([caption, picture]) => `<figure><figcaption>${caption}</figcaption>
    <img src="data:image/png;base64,${picture.toString('base64')}" width="${WINDOW.viewport.width}"></figure>`);
  await page.setContent(`<style>
    body { margin: 0; display: inline-flex; gap: 22px; padding: 22px; background: #d9c7ae; font: 15px sans-serif; color: #3b2412; }
    figure { margin: 0; }
    figcaption { padding: 0 4px 10px; }
    img { display: block; border-radius: 10px; box-shadow: 0 8px 24px #3b24124d; }
  </style>${figures.join('')}`);
  return page.locator('body').screenshot();
}
