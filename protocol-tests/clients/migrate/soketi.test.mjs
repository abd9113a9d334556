// docs/migrate/soketi.md, followed in a Laravel 10 project with soketi.

import assert from 'node:assert/strict';

import { test } from '../lib/stage.mjs';
import { openSdk } from '../lib/clients.mjs';
import { broadcasts } from './lib/broadcasts.mjs';
import { Project } from './lib/project.mjs';

const PAGE = 'soketi.md';

test('a project with a configuration file of soketi is served after the steps of the page, and stays as it was', async (stage) => {
  const project = await Project.open(stage, 'soketi');

  const printed = await project.follow(PAGE, 'With a configuration file');

  assert.match(printed, /cache_ttl_s = 3600 {2}# default of soketi/);
  assert.equal(project.server.port, project.port(6001));
  await broadcasts(stage, project, 'resources/js/bootstrap.js');
  const { apps } = JSON.parse(`{"apps": ${/"appManager.array.apps": (\[[^]*\])/.exec(await project.read('config.json'))[1]}}`);
  const admin = openSdk(project.server, apps[1]);
  assert.equal((await admin.trigger('news', 'headline', 'for the second app')).status, 200);
  const metrics = await fetch(`http://127.0.0.1:${project.port(9601)}/metrics`);
  assert.match(await metrics.text(), /^campanile_/m);
  await project.stop();
  await project.assertUntouched();
});

test('a project with variables of soketi is served after the steps of the page, and stays as it was', async (stage) => {
  const project = await Project.open(stage, 'soketi-variables');

  await project.follow(PAGE, 'With variables');

  assert.equal(project.server.port, project.port(6001));
  await broadcasts(stage, project, 'resources/js/bootstrap.js');
  await project.stop();
  await project.assertUntouched();
});
