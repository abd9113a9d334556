// Restarts a server with twenty pusher-js clients that are connected directly.

import { assertRestart, inNode } from './lib/restart.mjs';
import { test } from './lib/stage.mjs';

for (const mode of ['plain', 'reuse_port', 'LISTEN_FDS']) {
  test(`after a restart (${mode}) all clients reconnect within 2.5 s`, (stage) => assertRestart(stage, mode, inNode));
}
