// SPDX-License-Identifier: Apache-2.0
import {
  type Document,
  isMap,
  isNode,
  isScalar,
  isSeq,
  LineCounter,
  parseAllDocuments,
  parseDocument,
  stringify,
} from 'yaml';
import { messageOf } from './errors.js';

/** Where something is in a text; both count from 1. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** The way from the root of a document to a value in it. */
export type Path = readonly (string | number)[];

/** A YAML text that was read. `value` means nothing when there are `problems`. */
export interface YamlText {
  readonly value: unknown;
  readonly problems: readonly (Position & { readonly detail: string })[];
  /** Where the value at `path` begins, or its key; what is not there has the position of the nearest thing around it. */
  position(path: Path, part: 'key' | 'value'): Position;
}

/** Reads one YAML 1.2 document, so JSON too. Never throws. */
export function readYaml(text: string): YamlText {
  const lines = new LineCounter();
  return textOf(parseDocument(text, { lineCounter: lines, prettyErrors: false }), lines);
}

/** Reads every YAML document of a text; none in an empty one. Positions are in the whole text. Never throws. */
export function readYamlDocuments(text: string): readonly YamlText[] {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false });
  return Array.isArray(documents) ? documents.map((document) => textOf(document, lines)) : [];
}

function textOf(document: Document.Parsed, lines: LineCounter): YamlText {
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  const problems = document.errors.map(({ code, message, pos }) => ({
    ...at(pos[0]),
    detail: code === 'MULTIPLE_DOCS' ? 'a second document begins here; wanted one' : message,
  }));
  let value: unknown;
  try {
    value = document.toJS();
  } catch (error) {
    problems.push({ ...at(0), detail: messageOf(error) }); // an alias without an anchor, or too many of them
  }
  const position = (path: Path, part: 'key' | 'value'): Position => {
    let node: unknown = document.contents;
    let offset = offsetOf(node) ?? 0;
    for (const [i, token] of path.entries()) {
      let key: unknown;
      if (isMap(node)) {
        const pair = node.items.find((each) => (isScalar(each.key) ? each.key.value : each.key) === token);
        key = pair?.key;
        node = pair?.value;
      } else {
        node = isSeq(node) && typeof token === 'number' ? node.items[token] : undefined;
      }
      const isKey = part === 'key' && i === path.length - 1;
      const found = (isKey ? offsetOf(key) : undefined) ?? offsetOf(node) ?? offsetOf(key);
      if (found === undefined) break;
      offset = found;
    }
    return at(offset);
  };
  return { value, problems, position };
}

/** Writes a value as YAML, every long text on one line. */
export function writeYaml(value: unknown): string {
  return stringify(value, { lineWidth: 0 });
}

function offsetOf(node: unknown): number | undefined {
  return isNode(node) && node.range ? node.range[0] : undefined;
}
