// docs/migrate/laravel-websockets.md, followed in a Laravel 10 project with laravel-websockets 1.14.

import assert from 'node:assert/strict';

import { test } from '../lib/stage.mjs';
import { broadcasts } from './lib/broadcasts.mjs';
import { firstFrame } from './lib/origin.mjs';
import { Project } from './lib/project.mjs';

const PAGE = 'laravel-websockets.md';

test('a project with laravel-websockets is served after the steps of the page, and stays as it was', async (stage) => {
  const project = await Project.open(stage, 'laravel-websockets');

  const printed = await project.follow(PAGE, 'Switch');

  assert.match(printed, /LARAVEL_WEBSOCKETS_PORT .* has no effect/);
  assert.equal(project.server.port, project.port(6001));
  await broadcasts(stage, project, 'resources/js/bootstrap.js');
  await project.stop();
  await project.assertUntouched();
});

test('several apps and origins of laravel-websockets are served from config.toml', async (stage) => {
  const project = await Project.open(stage, 'laravel-websockets-apps');

  await project.follow(PAGE, 'Several apps, restricted origins');

  assert.equal(project.server.port, project.port(6001));
  await broadcasts(stage, project, 'resources/js/bootstrap.js');
  const { PUSHER_APP_KEY: shop, ADMIN_APP_KEY: admin } = await project.variables();
  for (const key of [shop, admin]) {
    assert.match(await firstFrame(project.server, key, 'https://shop.example.com'), /connection_established/);
    assert.match(await firstFrame(project.server, key, 'https://other.example.com'), /4009/);
  }
  await project.stop();
  await project.follow(PAGE, 'Go back');
  await project.assertUntouched();
});
