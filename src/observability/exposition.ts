// SPDX-License-Identifier: Apache-2.0
// The only importer of prom-client: families of samples as the text that Prometheus reads.
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import { slices } from '../controlplane/slices.js';

/** Label names and values. */
export type Labels = Readonly<Record<string, string>>;
/** One series of a family as it is now. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  readonly metricName?: string;
}
/** A metric; `name` without the prefix. */
export interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly samples: readonly Sample[];
}

const PREFIX = 'fairlead_';
/** More series than this are cut off, and said so: a scrape must stay short. */
const SERIES_MAX = 20_000;

/** The one sample of a family without labels. */
export const one = (value: number): Sample[] => [{ labels: {}, value }];
export const counter = (name: string, help: string, samples: readonly Sample[]): Family => ({
  name,
  type: 'counter',
  help,
  samples,
});
export const gauge = (name: string, help: string, samples: readonly Sample[]): Family => ({
  name,
  type: 'gauge',
  help,
  samples,
});

/** Without labels. `counts`: by bucket, not added up; one more than `ends`, for what is beyond them. */
export function histogram(
  name: string,
  help: string,
  ends: readonly number[],
  counts: readonly number[],
  sum: number,
): Family {
  let below = 0;
  const buckets = counts.map((count, at) => {
    below += count;
    const le = String(ends[at] ?? '+Inf');
    return { labels: { le }, value: below, metricName: `${PREFIX}${name}_bucket` };
  });
  const rest = { sum, count: below };
  const others = Object.entries(rest).map(([end, value]) => ({
    labels: {},
    value,
    metricName: `${PREFIX}${name}_${end}`,
  }));
  return { name, type: 'histogram', help, samples: [...buckets, ...others] };
}

/** An answer to a scrape. */
export interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

/** Cuts the families to `max` series in all; the second is how many were left out. */
export function truncate(families: readonly Family[], max: number): [Family[], number] {
  let room = max;
  let cut = 0;
  const kept = families.map((family) => {
    const samples = family.samples.slice(0, room);
    room -= samples.length;
    cut += family.samples.length - samples.length;
    return { ...family, samples };
  });
  return [kept, cut];
}

/** Series that are made to text in one turn of the event loop. */
const PIECE = 500;

/** The text of one family. The head, HELP and TYPE, is there once: the library writes it over every piece. */
async function textOf({ name, help, type, samples }: Family, pause: () => Promise<void> | undefined): Promise<string> {
  const pieces: string[] = [];
  for (let at = 0; at === 0 || at < samples.length; at += PIECE) {
    const values = samples.slice(at, at + PIECE);
    const piece = { name: `${PREFIX}${name}`, help, type, aggregator: 'sum', values };
    const registry = new Registry();
    registry.registerMetric({ ...piece, get: async () => piece, reset: () => undefined } as unknown as Metric);
    const text = await registry.metrics();
    pieces.push(at === 0 ? text : text.replace(/^(#.*\n){2}/, ''));
    await pause();
  }
  return pieces.join('');
}

/** Gives the text of these families, read at each scrape, and of the process. */
export function openExposition(read: () => Promise<readonly Family[]>): () => Promise<Exposition> {
  const process = new Registry();
  collectDefaultMetrics({ register: process, prefix: PREFIX });
  return async () => {
    const [kept, cut] = truncate(await read(), SERIES_MAX);
    kept.push(gauge('series_truncated', `Series left out of this scrape: at most ${SERIES_MAX} are shown.`, one(cut)));
    const pause = slices();
    const texts: string[] = [];
    for (const family of kept) texts.push(await textOf(family, pause));
    return { contentType: process.contentType, text: [...texts, await process.metrics()].join('\n') };
  };
}
