// Runs axe-core in a page whose policy forbids strange scripts: over the debugging protocol, not a script element.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';

export interface Violation {
  id: string;
  impact: string | null;
  targets: string[];
}

const SOURCE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];

interface AxeResult {
  passes: unknown[];
  violations: { id: string; impact: string | null; nodes: { target: unknown[]; failureSummary?: string }[] }[];
}

export async function violationsIn(page: Page): Promise<Violation[]> {
  await page.evaluate(SOURCE);
  const result = await page.evaluate(async (rules) => {
    const { axe } = window as unknown as { axe: { run: (root: Document, options: object) => Promise<AxeResult> } };
    return await axe.run(document, { runOnly: { type: 'tag', values: rules } });
  }, RULES);
  if (result.passes.length === 0) throw new Error('axe checked nothing');
  return result.violations.map(({ id, impact, nodes }) => ({
    id,
    impact,
    targets: nodes.map((node) => `${node.target.join(' ')} ${node.failureSummary ?? ''}`),
  }));
}
