// The console in a browser.

import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

import { APP } from './server.mjs';

const { resolve } = createRequire(import.meta.url);

export const PASSWORD = 'a password of the tests';

/** The addresses of views that need nothing but an app. */
export const VIEWS = {
  overview: '#/overview',
  log: '#/log',
  configuration: '#/configuration',
  apps: '#/apps',
  channels: `#/apps/${APP.id}/channels`,
  connections: `#/apps/${APP.id}/connections`,
  'closed connections': `#/apps/${APP.id}/connections?show=closed`,
  'rejected connections': `#/apps/${APP.id}/connections?show=rejected`,
  authorizations: `#/apps/${APP.id}/authorizations`,
  webhooks: `#/apps/${APP.id}/webhooks`,
  publish: `#/apps/${APP.id}/publish`,
};

/** Settings of a server with a console, in the form that `Server.start` takes. */
export function withConsole({ app = {}, ...sections } = {}) {
  return { console: { password: PASSWORD }, app: { console_payloads: true, ...app }, ...sections };
}

/** Opens the console of a server in a window, whose errors fail the test when it is closed. */
export async function openConsole(browser, server, { path = '', hash = '', ...options } = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error));
  // A policy of the page that rejects something says so in the log of the browser only.
  page.on('console', (message) => { if (/Content Security Policy/.test(message.text())) errors.push(new Error(message.text())); });
  await page.goto(`${server.url}${path}/console/${hash}`);
  return new ConsoleWindow(page, errors);
}

/** Opens the console and logs in with the password of all apps, or with that of one. */
export async function logIn(browser, server, { app, password = PASSWORD, ...options } = {}) {
  const window = await openConsole(browser, server, options);
  await window.logIn(password, app);
  // On a phone it is there and hidden; the form has none.
  await window.page.locator('#navigation').waitFor({ state: 'attached' });
  await window.heading().waitFor();
  return window;
}

class ConsoleWindow {
  #errors;

  constructor(page, errors) {
    this.page = page;
    this.#errors = errors;
    this.main = page.getByRole('main');
    this.navigation = page.getByRole('navigation', { name: 'Console' });
  }

  async logIn(password, app) {
    if (app) {
      await this.page.getByLabel('Log in to one app only').check();
      await this.page.getByLabel('App id').fill(app);
    }
    await this.page.getByLabel('Password').fill(password);
    await this.page.getByRole('button', { name: 'Log in' }).click();
  }

  /** The heading of the current view. */
  heading(name) {
    return this.main.getByRole('heading', { level: 1, name });
  }

  /** Goes to a view by its address, and waits until it has what it shows. */
  async goTo(hash) {
    await this.page.evaluate((next) => { location.hash = next; }, hash);
    await this.ready();
  }

  /** Waits until the view no longer waits for the server. */
  async ready() {
    await this.heading().waitFor();
    await this.main.locator('.loading').waitFor({ state: 'detached' });
  }

  async sees(text, options) {
    await this.main.getByText(text, options).first().waitFor({ state: 'visible' });
  }

  /** The value of a fact with this name. */
  fact(name) {
    return this.main.locator('dl.facts > div').filter({ has: this.page.getByText(name, { exact: true }) }).locator('dd');
  }

  /** The row of a table, or the item of a list, that contains `text`. */
  row(text) {
    return this.main.getByRole('row').or(this.main.getByRole('listitem')).filter({ hasText: text }).first();
  }

  /** What axe-core finds wrong with the page: a line for each rule. */
  async axeProblems() {
    const source = await readFile(resolve('axe-core/axe.min.js'), 'utf8');
    return this.page.evaluate(async (text) => {
      // The policy of the page allows no script element, and says nothing about what a debugger evaluates.
      if (!window.axe) (0, eval)(text);
      const { violations } = await window.axe.run();
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(' | ')}`);
    }, source);
  }

  /** Whether the page is wider than the window. */
  isTooWide() {
    return this.page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  }

  async close() {
    await this.page.context().close();
    if (this.#errors.length) throw this.#errors[0];
  }
}
