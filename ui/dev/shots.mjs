// Screenshots of every scene: node dev/shots.mjs OUTDIR [SCENE...], with `npm run dev` or the fake build served at URL.
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { build, preview } from 'vite';

const [out = '/tmp/confab-shots', ...wanted] = process.argv.slice(2);
const scenes = wanted.length > 0 ? wanted : ['welcome', 'signin', 'signin-first', 'certificate', 'certificate-changed', 'lobby', 'lobby-watch', 'lobby-nocamera', 'hosting', 'connecting', 'alone', 'duo', 'call', 'many', 'share', 'watching', 'watching-duo', 'moderator', 'muted', 'summary'];
const sizes = [[1280, 800], [480, 600]];
const themes = (process.env.THEMES ?? 'dark,light').split(',');
/** What to do in a scene before its picture is taken. */
const acts = {
  share: (page) => page.getByTestId('toggle-chat').click(),
  moderator: async (page) => {
    await page.keyboard.press('p');
    await page.getByTestId('person').first().getByTestId('person-menu').click();
  },
  hosting: (page) => page.getByTestId('host').click(),
  signin: async (page) => {
    await page.getByTestId('sign-in-password').fill('not the right one');
    await page.getByTestId('sign-in-submit').click();
    await page.getByTestId('error').waitFor();
  },
};

mkdirSync(out, { recursive: true });
await build({ mode: 'fake', logLevel: 'warn' });
const server = await preview({ mode: 'fake', preview: { port: 5198, strictPort: true, host: '127.0.0.1' } });
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'] });
for (const [width, height] of sizes) {
  for (const colorScheme of themes) {
    const page = await browser.newPage({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce' });
    page.on('console', (message) => message.type() === 'error' && console.log('console:', message.text()));
    page.on('pageerror', (error) => console.log('error:', error.message));
    for (const name of scenes) {
      await page.goto(`http://127.0.0.1:5198/?scene=${name}`);
      await page.waitForTimeout(600);
      await acts[name]?.(page);
      await page.waitForTimeout(400);
      await page.screenshot({ path: `${out}/${name}-${colorScheme}-${width}.png` });
    }
    await page.close();
  }
}
await browser.close();
await server.close();
