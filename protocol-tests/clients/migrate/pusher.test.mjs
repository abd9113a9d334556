// docs/migrate/pusher.md, followed in a Laravel 12 project with hosted Pusher.

import assert from 'node:assert/strict';

import { test } from '../lib/stage.mjs';
import { broadcasts } from './lib/broadcasts.mjs';
import { Project } from './lib/project.mjs';

const PAGE = 'pusher.md';

test('a project with hosted Pusher is served after the steps of the page, and is as before after those back', async (stage) => {
  const project = await Project.open(stage, 'pusher');
  assert.equal((await project.connection()).options.host, 'api-eu.pusher.com');

  await project.follow(PAGE, 'Switch a Laravel project');

  assert.equal((await project.connection()).options.host, '127.0.0.1');
  assert.equal(project.server.port, project.port(8080));
  await broadcasts(stage, project, 'resources/js/echo.js');
  await project.stop();
  await project.follow(PAGE, 'Go back');
  await project.assertUntouched();
  assert.equal((await project.connection()).options.host, 'api-eu.pusher.com');
});
