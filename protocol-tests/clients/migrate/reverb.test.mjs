// docs/migrate/reverb.md, followed in a Laravel 12 project with Reverb.

import assert from 'node:assert/strict';

import { firstFrame } from './lib/origin.mjs';
import { broadcasts } from './lib/broadcasts.mjs';
import { Project } from './lib/project.mjs';
import { test } from '../lib/stage.mjs';

const PAGE = 'reverb.md';

test('a project with Reverb is served after the steps of the page, and is as before after those back', async (stage) => {
  const project = await Project.open(stage, 'reverb');

  const printed = await project.follow(PAGE, 'Switch');

  assert.match(printed, /it does not differ from the effective configuration/);
  assert.equal(project.server.port, project.port(8080));
  await project.assertUntouched();
  await broadcasts(stage, project, 'resources/js/echo.js');
  await project.stop();
  await project.assertUntouched();
});

test('apps and origins of config/reverb.php are served after an import', async (stage) => {
  const project = await Project.open(stage, 'reverb-apps');

  const printed = await project.follow(PAGE, 'Several apps, restricted origins');

  assert.match(printed, /SECURITY: Campanile allows every origin/, 'as the page says, before the import');
  await broadcasts(stage, project, 'resources/js/echo.js');
  const { REVERB_APP_KEY: shop, REVERB_ADMIN_KEY: admin } = await project.variables();
  for (const [key, origin, answer] of [
    [shop, 'https://shop.example.com', /connection_established/],
    [shop, 'https://eu.shop.example.com', /connection_established/],
    [shop, 'https://admin.example.com', /4009/],
    [admin, 'https://admin.example.com', /connection_established/],
    [admin, 'https://shop.example.com', /4009/],
  ]) {
    assert.match(await firstFrame(project.server, key, origin), answer, `${origin} at ${key}`);
  }
  await project.stop();
  await project.follow(PAGE, 'Go back');
  await project.assertUntouched();
});
