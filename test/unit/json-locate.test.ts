// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { messageOf } from '../../src/model/errors.js';
import { parseJson } from '../../src/model/json-locate.js';

const broken: [name: string, text: string, place: RegExp][] = [
  ['nothing', '', /^line 1 column 1: got the end of the text; wanted a value/],
  ['trailing comma in an array', '{\n  "a": [1,\n  ]\n}', /^line 3 column 3: got "]"; wanted a value/],
  ['trailing comma in an object', '{"a": 1,}', /^line 1 column 9: got "}"; wanted a name/],
  ['missing value', '{"a": }', /^line 1 column 7:/],
  ['missing comma', '{"a": 1\n "b": 2}', /^line 2 column 2: .* wanted "," or "}"/],
  ['bare word', '{"a": tru}', /^line 1 column 7: got "tru}"/],
  ['single quotes', "{'a': 1}", /^line 1 column 2:/],
  ['cut in a string', '{"a": "bc', /^line 1 column 7:/],
  ['cut in an object', '{"a": {"b": 1', /^line 1 column 14: got the end of the text/],
  ['control character', '["a\u0001"]', /^line 1 column 2:/],
  ['text after the end', '{} x', /^line 1 column 4: got "x"; wanted the end of the text/],
  ['leading zero', '[01]', /^line 1 column 3:/],
];
for (const [name, text, place] of broken) {
  test(`json: ${name} is placed`, () => {
    assert.throws(() => JSON.parse(text), SyntaxError);
    assert.throws(
      () => parseJson(text),
      (error) => place.test(messageOf(error)) || assert.fail(messageOf(error)),
    );
  });
}

test('json: whatever JSON.parse takes is taken, and every value has its place', () => {
  const text =
    '{ "a/b": [1, -2.5e+3, {"~": null}],\n\t"s": "\\u00e9\\n\u2028\ud83d\ude00", "t": true, "e": {}, "f": [] }\r\n';
  const json = parseJson(text);
  assert.deepEqual(json.value, JSON.parse(text));
  assert.deepEqual(json.at('/a~1b/2/~0'), { line: 1, column: 29 });
  assert.deepEqual(json.at('/s'), { line: 2, column: 7 });
  assert.deepEqual(json.at('/s/missing'), { line: 2, column: 7 });
  assert.deepEqual(json.at('/nowhere'), { line: 1, column: 1 });
});
