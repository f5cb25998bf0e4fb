// Every screen in both themes, wide and narrow, against axe-core; and the layout at 200 % zoom in 480 x 600.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Surroundings, violations } from './browser';

const SCENES = [
  'welcome', 'signin', 'signin-first', 'certificate', 'certificate-changed', 'lobby', 'lobby-watch', 'lobby-nocamera',
  'connecting', 'alone', 'duo', 'call', 'many', 'share', 'watching', 'watching-duo', 'moderator', 'muted', 'summary',
];
let around: Surroundings;
beforeAll(async () => {
  around = await Surroundings.start();
});
afterAll(() => around.stop());

describe('accessibility', () => {
  for (const scene of SCENES) {
    test(`${scene} has nothing that axe objects to`, async () => {
      for (const [theme, size] of [['dark', { width: 1280, height: 800 }], ['light', { width: 480, height: 600 }]] as const) {
        const page = await around.page(scene, size, theme);
        expect(await violations(page)).toEqual([]);
        await page.context().close();
      }
    });
  }

  test('open panels, menus and dialogs are clean too', async () => {
    const page = await around.page('moderator');
    for (const open of ['choose-microphone', 'choose-camera', 'reactions', 'more']) {
      await page.getByTestId(open).click();
      await page.getByRole('menu').waitFor();
      expect(await violations(page)).toEqual([]);
      await page.keyboard.press('Escape');
    }
    for (const panel of ['toggle-chat', 'toggle-people']) {
      await page.getByTestId(panel).click();
      expect(await violations(page)).toEqual([]);
    }
    await page.getByTestId('person-menu').last().click();
    expect(await violations(page)).toEqual([]);
    await page.getByTestId('menu-volume').click();
    await page.getByTestId('volume-dialog').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    for (const dialog of ['settings', 'invite']) {
      await page.getByTestId(dialog).click();
      await page.locator('dialog[open]').waitFor();
      expect(await violations(page)).toEqual([]);
      await page.keyboard.press('Escape');
    }
    await page.keyboard.press('?');
    await page.getByTestId('shortcuts-dialog').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.context().close();
  });

  test('hosting is clean, before and after it starts', async () => {
    const page = await around.page('welcome');
    await page.getByTestId('host').click();
    expect(await violations(page)).toEqual([]);
    await page.getByTestId('host-password').fill('long enough');
    await page.getByTestId('host-start').click();
    await page.getByTestId('host-url').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.context().close();
  });

  test('at 200 % zoom in 480 x 600 nothing is wider than the window, and the call can be left', async () => {
    for (const scene of SCENES) {
      const page = await around.page(scene, { width: 240, height: 300 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect([scene, wide]).toEqual([scene, 0]);
      const leave = page.getByTestId('leave');
      if ((await leave.count()) > 0) {
        const box = await leave.boundingBox();
        expect([scene, (box?.x ?? -1) >= 0 && (box?.x ?? 0) + (box?.width ?? 0) <= 240]).toEqual([scene, true]);
      }
      await page.context().close();
    }
  });

  test('no script failed and the content security policy was never violated', () => {
    expect(around.problems).toEqual([]);
  });
});
