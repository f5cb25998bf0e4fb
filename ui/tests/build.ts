// Once before all tests: the page over the fake backend, built as the app's is.
import { build } from 'vite';

export default async function setup(): Promise<void> {
  await build({ mode: 'fake', logLevel: 'warn' });
}
