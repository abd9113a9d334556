// Restarts a server behind each proxy with twenty pusher-js clients.

import { MODES, assertRestart, inNode } from '../lib/restart.mjs';
import { test } from '../lib/stage.mjs';
import { BALANCERS, KINDS } from './lib/through.mjs';

for (const kind of KINDS) {
  for (const mode of Object.keys(MODES)) {
    if (mode === 'cluster' && !BALANCERS.includes(kind)) continue;
    test(`behind ${kind.name}, after a restart (${mode}) all clients reconnect within 2.5 s`, async (stage) => {
      await assertRestart(stage, mode, inNode, (upstreams) => kind.start(upstreams));
    });
  }
}
