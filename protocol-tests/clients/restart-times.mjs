// Prints how long clients are disconnected when a server restarts: `npm run restart-times`.

import { openBrowser } from './lib/chat.mjs';
import { MODES, inBrowser, inNode, measure } from './lib/restart.mjs';
import { Stage } from './lib/stage.mjs';
import { nginx } from './proxies/lib/nginx.mjs';

const browser = await openBrowser();
const kinds = [['Node', inNode], ['Chromium', inBrowser(browser)]];
const ways = [['direct', undefined], ['nginx', (upstreams) => nginx.start(upstreams)]];

console.log('| mode | client | way | all back after | connections per client, at most |\n|---|---|---|---|---|');
for (const mode of Object.keys(MODES)) {
  for (const [client, clients] of kinds) {
    for (const [way, proxy] of ways) {
      if (mode === 'cluster' && !proxy) continue;
      const stage = new Stage();
      const { ms, attempts, moved } = await measure(stage, mode, clients, proxy);
      await stage.clear();
      const of = moved === 20 ? '' : ` (${moved} of 20 moved)`;
      console.log(`| ${mode} | ${client} | ${way} | ${ms} ms${of} | ${attempts} |`);
    }
  }
}
await browser.close();
process.exit();
