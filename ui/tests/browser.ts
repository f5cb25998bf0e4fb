// A headless Chromium with the page over the fake backend, under the app's content security policy.
import { chromium, type Browser, type Page } from 'playwright-core';
import { preview, type PreviewServer } from 'vite';
import { violationsIn, type Violation } from './axe';

const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'];
/** As src-tauri's, without its concession to inline styles: the page needs none. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; " +
  "connect-src 'self' ws://127.0.0.1:*; base-uri 'none'; form-action 'none'; frame-src 'none'; object-src 'none'";

export class Surroundings {
  problems: string[] = [];

  private constructor(
    private readonly server: PreviewServer,
    private readonly browser: Browser,
  ) {}

  static async start(): Promise<Surroundings> {
    const server = await preview({
      mode: 'fake',
      logLevel: 'warn',
      preview: { port: 0, host: '127.0.0.1', headers: { 'Content-Security-Policy': POLICY } },
    });
    const browser = await chromium.launch({ executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium', args: FLAGS });
    return new Surroundings(server, browser);
  }

  async page(scene: string, size = { width: 1280, height: 800 }, colorScheme: 'dark' | 'light' = 'dark'): Promise<Page> {
    const context = await this.browser.newContext({ viewport: size, colorScheme, reducedMotion: 'reduce', bypassCSP: false });
    const page = await context.newPage();
    page.on('console', (message) => message.type() === 'error' && this.problems.push(message.text()));
    page.on('pageerror', (error) => this.problems.push(error.message));
    await page.goto(new URL(`/?scene=${scene}`, this.server.resolvedUrls?.local[0]).href);
    await page.locator('h1').first().waitFor({ state: 'attached' });
    return page;
  }

  async stop(): Promise<void> {
    await this.browser.close();
    await this.server.close();
  }
}

export const violations = (page: Page): Promise<Violation[]> => violationsIn(page);
