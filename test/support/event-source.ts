// SPDX-License-Identifier: Apache-2.0
// A reader of server-sent events, as the standard has it: fields by line, a message at each empty line.
import { type IncomingMessage, request } from 'node:http';
import type { FairleadEvent } from '../../src/model/events.js';

export interface EventSource {
  readonly status: number;
  readonly type: string;
  /** What has come: events, and comments with ':' before them. */
  readonly events: FairleadEvent[];
  readonly comments: string[];
  readonly lastId: () => string;
  /** Stops reading: the daemon has to keep what comes. */
  pause(): void;
  resume(): void;
  close(): void;
}

/** Opens a stream on a Unix socket; resolves with its first bytes. */
export function openEvents(
  socketPath: string,
  path = '/api/v1/events',
  headers: Readonly<Record<string, string>> = {},
): Promise<EventSource> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, path, headers: { accept: 'text/event-stream', ...headers } }, (response) =>
      resolve(sourceOf(response, () => outgoing.destroy())),
    );
    outgoing.on('error', reject).end();
  });
}

function sourceOf(response: IncomingMessage, close: () => void): EventSource {
  const events: FairleadEvent[] = [];
  const comments: string[] = [];
  let rest = '';
  let id = '';
  let data: string[] = [];
  const line = (text: string): void => {
    const [field = '', value = ''] = text.split(/: ?(.*)/s);
    if (text === '') {
      if (data.length > 0) events.push(JSON.parse(data.join('\n')));
      data = [];
    } else if (field === '') comments.push(value);
    else if (field === 'id') id = value;
    else if (field === 'data') data.push(value);
  };
  response.setEncoding('utf8').on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const each of lines) line(each);
  });
  response.on('error', () => undefined); // we closed it
  return {
    status: response.statusCode ?? 0,
    type: response.headers['content-type'] ?? '',
    events,
    comments,
    lastId: () => id,
    pause: () => void response.pause(),
    resume: () => void response.resume(),
    close,
  };
}
