// SPDX-License-Identifier: Apache-2.0
import { native } from '../dataplane/native.js';
import { messageOf } from '../model/errors.js';

/** Who started this process, when that is systemd with Type=notify; see sd_notify(3). */
export interface Manager {
  ready(): void;
  stopping(): void;
}

/**
 * Tells systemd, by $NOTIFY_SOCKET, how the process does; nothing where that is not set. From `ready` on with half of $WATCHDOG_USEC between them it
 * says that its event loop turns. What cannot be told goes to `warn`, once.
 */
export function managerOf(env: Readonly<Record<string, string | undefined>>, warn: (line: string) => void): Manager {
  const { NOTIFY_SOCKET: socket = '', WATCHDOG_USEC: limit = '', WATCHDOG_PID: pid = '' } = env;
  let isWarned = false;
  const tell = (text: string): void => {
    if (socket === '') return;
    try {
      native.sendDatagram(socket, text);
    } catch (error) {
      if (!isWarned) warn(`tell systemd ${text}: ${messageOf(error)}`);
      isWarned = true;
    }
  };
  let timer: NodeJS.Timeout | undefined;
  return {
    ready() {
      tell('READY=1');
      const isMine = pid === '' || pid === `${process.pid}`;
      if (isMine && Number(limit) > 0) timer = setInterval(() => tell('WATCHDOG=1'), Number(limit) / 2000).unref();
    },
    stopping() {
      clearInterval(timer);
      tell('STOPPING=1');
    },
  };
}
