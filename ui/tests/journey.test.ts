// From the first page to the end of a call, in a real browser: once by keyboard alone, then the call's own rules.
import type { Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Surroundings } from './browser';

let around: Surroundings;
beforeAll(async () => {
  around = await Surroundings.start();
});
afterAll(() => around.stop());

const focused = (page: Page) => page.evaluate(() => document.activeElement?.getAttribute('data-testid') ?? document.activeElement?.tagName);

/** Presses Tab until the focus is where it should be; fails rather than go round for ever. */
async function tabTo(page: Page, testid: string): Promise<void> {
  for (let i = 0; i < 40; i += 1) {
    if ((await focused(page)) === testid) return;
    await page.keyboard.press('Tab');
  }
  throw new Error(`${testid} cannot be reached with Tab`);
}

/** The keys that the page wants pictures of. */
const asked = (page: Page) =>
  page.evaluate(() => {
    const { wishes } = (window as unknown as { backend: { wishes: { key: number; width: number }[] } }).backend;
    return wishes.filter((wish) => wish.width > 0).map((wish) => wish.key);
  });

/** The mean colour of a tile on the canvas. */
const colour = (page: Page, index: number) =>
  page.evaluate((at) => {
    const canvas = document.querySelector<HTMLCanvasElement>('[data-testid=stage-canvas]');
    const tile = document.querySelectorAll('[data-testid=tile]')[at];
    const context = canvas?.getContext('2d');
    if (!canvas || !tile || !context) return null;
    const [stage, box] = [canvas.getBoundingClientRect(), tile.getBoundingClientRect()];
    const scale = canvas.width / stage.width;
    const data = context.getImageData((box.left - stage.left + 20) * scale, (box.top - stage.top + 20) * scale, 8, 8).data;
    return [data[0], data[1], data[2], data[3]];
  }, index);

test('keyboard alone: sign in after a mistake, join, talk, chat, leave', async () => {
  const page = await around.page('welcome');
  await tabTo(page, 'open-sign-in');
  await page.keyboard.press('Enter');
  expect(await focused(page)).toBe('sign-in-server');
  await page.keyboard.type('calls.example');
  await page.keyboard.press('Tab');
  await page.keyboard.type('mara');
  await page.keyboard.press('Tab');
  await page.keyboard.type('wrong');
  await page.keyboard.press('Enter');
  await page.getByTestId('error').waitFor();
  expect(await focused(page)).toBe('sign-in-password');
  expect(await page.getByTestId('sign-in-password').inputValue()).toBe('wrong');
  expect(await page.getByTestId('sign-in-user').inputValue()).toBe('mara');
  await page.keyboard.press('Control+A');
  await page.keyboard.type('right');
  await page.keyboard.press('Enter');
  await page.getByTestId('lobby-join').waitFor();
  expect(await focused(page)).toBe('lobby-join');
  await page.keyboard.press('Enter');
  await page.getByTestId('leave').waitFor();

  await tabTo(page, 'toggle-microphone');
  const microphone = page.getByTestId('toggle-microphone');
  await page.keyboard.press('Space');
  await page.locator('[data-testid=toggle-microphone][aria-checked=false]').waitFor();
  await page.keyboard.press('ArrowRight');
  expect(await focused(page)).toBe('choose-microphone');
  await page.keyboard.press('Enter');
  await page.getByRole('menu').waitFor();
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('Enter');
  expect(await page.getByRole('menu').count()).toBe(0);
  expect(await focused(page)).toBe('choose-microphone');

  await page.keyboard.press('c');
  await page.getByTestId('chat-input').waitFor();
  expect(await focused(page)).toBe('chat-input');
  await page.keyboard.type('m is text here');
  await page.keyboard.press('Enter');
  await page.getByTestId('chat-message').filter({ hasText: 'm is text here' }).waitFor();
  expect(await microphone.getAttribute('aria-checked')).toBe('false');
  await page.keyboard.press('Escape');
  expect(await focused(page)).toBe('choose-microphone');

  await page.keyboard.press('End');
  expect(await focused(page)).toBe('leave');
  await page.keyboard.press('Enter');
  await page.getByTestId('summary-done').waitFor();
  expect(await focused(page)).toBe('summary-done');
  await page.context().close();
});

describe('signing in', () => {
  test('an unknown certificate is asked about once, then the sign-in goes on', async () => {
    const page = await around.page('signin-first');
    await page.getByTestId('sign-in-server').fill('new.example');
    await page.getByTestId('sign-in-user').fill('mara');
    await page.getByTestId('sign-in-password').fill('right');
    await page.getByTestId('sign-in-submit').click();
    await page.getByTestId('certificate').waitFor();
    expect(await focused(page)).toBe('certificate-refuse');
    await page.getByTestId('certificate-accept').click();
    await page.getByTestId('lobby-join').waitFor();
    await page.context().close();
  });

  test('a failure after the certificate stands beside its field, and what was typed is kept', async () => {
    const page = await around.page('signin-first');
    await page.getByTestId('sign-in-server').fill('new.example');
    await page.getByTestId('sign-in-user').fill('mara');
    await page.getByTestId('sign-in-password').fill('wrong');
    await page.getByTestId('sign-in-submit').click();
    await page.getByTestId('certificate-accept').click();
    await page.getByTestId('error').waitFor();
    expect(await page.getByTestId('sign-in-password').getAttribute('aria-invalid')).toBe('true');
    expect(await page.getByTestId('sign-in-password').inputValue()).toBe('wrong');
    await page.context().close();
  });

  test('after too many attempts the button counts down', async () => {
    const page = await around.page('signin-first');
    await page.getByTestId('sign-in-server').fill('calls.example');
    await page.getByTestId('sign-in-user').fill('mara');
    for (let i = 0; i < 6; i += 1) {
      await page.getByTestId('sign-in-password').fill(`wrong ${i}`);
      await page.locator('[data-testid=sign-in-submit][aria-busy=false]').click();
      await page.waitForFunction(() => document.querySelector('[data-testid=sign-in-submit]')?.getAttribute('aria-busy') === 'false');
    }
    await page.locator('[data-testid=sign-in-submit][aria-disabled=true]', { hasText: /Wait \d+ s/ }).waitFor();
    await page.context().close();
  });

  test('a full room is said beside the room, and joining elsewhere works', async () => {
    const page = await around.page('lobby');
    await page.getByTestId('lobby-room').fill('full');
    await page.getByTestId('lobby-join').click();
    await page.getByTestId('error').waitFor();
    expect(await focused(page)).toBe('lobby-room');
    await page.getByTestId('lobby-room').fill('other');
    await page.getByTestId('lobby-join').click();
    await page.getByTestId('leave').waitFor();
    expect(await page.getByTestId('room-name').textContent()).toBe('other');
    await page.context().close();
  });
});

describe('the call', () => {
  test('every tile with a camera has its picture on the canvas, one without has none', async () => {
    const page = await around.page('call');
    await page.waitForFunction(() => document.querySelectorAll('[data-testid=tile][data-pictured]').length === 4);
    const tiles = await page.getByTestId('tile').count();
    for (let i = 0; i < tiles; i += 1) {
      const on = (await page.getByTestId('tile').nth(i).getAttribute('data-camera')) === 'true';
      expect((await colour(page, i))?.[3]).toBe(on ? 255 : 0);
    }
    await page.context().close();
  });

  test('a click makes a tile the main video, another gives the grid back', async () => {
    const page = await around.page('call');
    expect(await page.getByTestId('main-video').count()).toBe(0);
    await page.locator('[data-testid=tile][data-sid=PA_2]').click();
    await page.locator('[data-testid=main-video][data-sid=PA_2]').waitFor();
    await page.locator('[data-testid=main-video] [data-testid=tile]').click();
    await page.getByTestId('main-video').waitFor({ state: 'detached' });
    await page.keyboard.press('2');
    await page.getByTestId('main-video').waitFor();
    await page.keyboard.press('w');
    await page.getByTestId('main-video').waitFor({ state: 'detached' });
    await page.context().close();
  });

  test('of two people the other is large, and the own picture can be moved to another corner', async () => {
    const page = await around.page('duo');
    await page.locator('[data-testid=main-video][data-sid=PA_1]').waitFor();
    const own = page.locator('[data-testid=tile][data-self=true]');
    const before = await own.boundingBox();
    await page.mouse.move((before?.x ?? 0) + 60, (before?.y ?? 0) + 40);
    await page.mouse.down();
    await page.mouse.move(200, 200, { steps: 5 });
    await page.mouse.up();
    const after = await own.boundingBox();
    expect(after?.x).toBeLessThan(100);
    expect(after?.y).toBeLessThan(200);
    expect(await page.locator('[data-testid=main-video][data-sid=PA_1]').count()).toBe(1);
    await page.context().close();
  });

  test('who watches sees a note and no buttons for what the role forbids', async () => {
    const page = await around.page('watching');
    await page.getByTestId('watch-only-note').waitFor();
    for (const gone of ['toggle-microphone', 'toggle-camera', 'choose-camera']) expect(await page.getByTestId(gone).count()).toBe(0);
    expect(await page.locator('[data-testid=tile][data-self=true]').count()).toBe(0);
    await page.getByTestId('banner-rejoin').waitFor();
    await page.context().close();
  });

  test('only a moderator is offered to mute and remove, and removing asks first', async () => {
    const guest = await around.page('call');
    await guest.keyboard.press('p');
    await guest.getByTestId('person-menu').last().click();
    expect(await guest.getByTestId('menu-remove').count()).toBe(0);
    await guest.context().close();
    const page = await around.page('moderator');
    await page.keyboard.press('p');
    await page.locator('[data-testid=person][data-sid=PA_1]').getByTestId('person-menu').click();
    await page.getByTestId('menu-remove').click();
    await page.getByTestId('confirm').waitFor();
    await page.getByTestId('confirm-yes').click();
    await page.locator('[data-testid=person][data-sid=PA_1]').waitFor({ state: 'detached' });
    await page.context().close();
  });

  test('Space held while muted speaks, and released mutes again', async () => {
    const page = await around.page('share');
    const state = (on: boolean) => page.locator(`[data-testid=toggle-microphone][aria-checked=${on}][aria-busy=false]`).waitFor();
    await state(false);
    await page.keyboard.down('Space');
    await state(true);
    await page.keyboard.up('Space');
    await state(false);
    await page.context().close();
  });

  test('a screen share takes the stage until the grid is chosen', async () => {
    const page = await around.page('share');
    await page.locator('[data-testid=main-video] [data-kind=screen]').waitFor();
    await page.getByTestId('layout-grid').click();
    await page.getByTestId('main-video').waitFor({ state: 'detached' });
    await page.context().close();
  });

  test('thirty people are two pages, and the second asks for its own pictures only', async () => {
    const page = await around.page('many');
    await page.waitForFunction(() => document.querySelectorAll('[data-testid=tile]').length === 25);
    await page.getByRole('button', { name: 'Next page' }).click();
    await page.waitForFunction(() => document.querySelectorAll('[data-testid=tile]').length === 5);
    await page.waitForFunction(() => document.querySelectorAll('[data-testid=tile][data-camera=true]:not([data-pictured])').length === 0);
    expect(await asked(page)).toHaveLength(await page.locator('[data-testid=tile][data-camera=true]').count());
    await page.context().close();
  });

  test('markup in chat is text', async () => {
    const page = await around.page('call');
    await page.keyboard.press('c');
    await page.getByTestId('chat-input').fill('<img src=x onerror=alert(1)>');
    await page.keyboard.press('Enter');
    await page.getByTestId('chat-message').filter({ hasText: '<img src=x' }).waitFor();
    expect(await page.locator('.message img').count()).toBe(0);
    await page.context().close();
  });

  test('nothing went wrong on the way', () => {
    expect(around.problems).toEqual([]);
  });
});
