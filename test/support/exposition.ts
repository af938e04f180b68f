// SPDX-License-Identifier: Apache-2.0
// A strict reader of the Prometheus text format 0.0.4: what a lenient one would let pass is an error.

export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const SAMPLE = /^([^{ ]+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/;
const VALUE = /^(?:[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN|Nan)$/i;
/** What the samples of a family may be called beside the family's own name. */
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  counter: [''],
  gauge: [''],
  histogram: ['_bucket', '_sum', '_count'],
  summary: ['', '_sum', '_count'],
};

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== ''; ) {
    const [whole, name = '', value = ''] = LABEL.exec(rest) ?? [];
    if (whole === undefined) throw new SyntaxError(`labels: ${text}`);
    if (name in labels || name.startsWith('__')) throw new SyntaxError(`label ${name} twice or reserved: ${text}`);
    labels[name] = value.replace(/\\(.)/g, (_, escaped) => (escaped === 'n' ? '\n' : escaped));
    rest = rest.slice(whole.length);
  }
  return labels;
}

/** Families by name. Throws SyntaxError: each has HELP, TYPE and then all its samples, once, and no series twice. */
export function readExposition(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new SyntaxError('the last line does not end');
  const families = new Map<string, { type: string; help: string; samples: Sample[] }>();
  const series = new Set<string>();
  let help: [string, string] | null = null;
  let current = '';
  for (const line of text.split('\n')) {
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (line === '') continue;
    if (keyword === 'HELP') {
      if (help || families.has(name) || !NAME.test(name)) throw new SyntaxError(`out of place: ${line}`);
      help = [name, rest];
    } else if (keyword === 'TYPE') {
      if (help?.[0] !== name || !(rest in SUFFIXES)) throw new SyntaxError(`out of place: ${line}`);
      families.set(name, { type: rest, help: help[1], samples: [] });
      help = null;
      current = name;
    } else {
      const [, sample = '', labelText = '', value = ''] = SAMPLE.exec(line) ?? [];
      const family = families.get(current);
      const fits = family && SUFFIXES[family.type]?.some((suffix) => sample === current + suffix);
      if (!fits || help || !VALUE.test(value)) throw new SyntaxError(`not a sample of ${current}: ${line}`);
      const labels = labelsOf(labelText);
      const id = `${sample} ${JSON.stringify(Object.entries(labels).sort())}`;
      if (series.has(id)) throw new SyntaxError(`series twice: ${line}`);
      series.add(id);
      family.samples.push({ name: sample, labels, value: Number(value.replace(/inf/i, 'Infinity')) });
    }
  }
  return families;
}
