// SPDX-License-Identifier: Apache-2.0
import type { ApiConfig } from '../../controlplane/config-api.js';
import type { EventLog } from '../../model/events.js';
import { type AuditFile, openAuditFile } from './audit-file.js';
import { type Limiter, openLimiter } from './limiter.js';
import { openReloaded, type Reloaded } from './reload.js';
import { endsWithin, loadTls, type TlsMaterial } from './tls.js';
import { loadTokens, type Token } from './tokens.js';

/** Who may use the API, how much, and where it is written down. */
export interface Access {
  readonly tokens: Reloaded<readonly Token[]> | null;
  readonly clients: ApiConfig['clients'];
  readonly open: ApiConfig['open'];
  /** Requests over TCP, by client; null where nobody has to say who he is: that is loopback. */
  readonly requests: Limiter | null;
  /** Attempts to come in, by address. */
  readonly failures: Limiter;
  readonly audit: AuditFile | null;
  readonly events: EventLog;
}

/** The same with what the listener needs. */
export interface OpenAccess extends Access {
  /** Null: plain HTTP. `onTls` calls back with each certificate that takes the place of the one before. */
  readonly tls: Reloaded<TlsMaterial> | null;
  onTls(listener: (material: TlsMaterial) => void): void;
  /** Reads certificates and tokens anew and goes on in the audit log that is at its path now. */
  reload(): Promise<void>;
  close(): Promise<void>;
}

export type AccessConfig = Pick<ApiConfig, 'tls' | 'clients' | 'tokens' | 'open' | 'requestsPerSecond' | 'audit'>;

const failures = { perSecond: 0.1, burst: 10 };

/** Opens what the configuration names. Throws as loadTls, loadTokens and openAuditFile do. */
export async function openAccess(config: AccessConfig, events: EventLog): Promise<OpenAccess> {
  const listeners: ((material: TlsMaterial) => void)[] = [];
  const parts: { close(): void | Promise<void> }[] = [];
  const opened = <T extends { close(): void | Promise<void> }>(part: T): T => {
    parts.push(part);
    return part;
  };
  const close = async (): Promise<void> => {
    for (const part of parts.splice(0)) await part.close();
  };
  const warnOfEnd = (material: TlsMaterial): void => {
    const end = endsWithin(material, 14);
    if (end === null) return;
    const message = `the certificate of the API ends ${end}: api.tls.cert`;
    events.emit({ type: 'api.certificate_ends', severity: 'warning', object: null, message });
  };
  try {
    const { tls: files, tokens: path } = config;
    const taken = (material: TlsMaterial): void => {
      for (const listener of listeners) listener(material);
      warnOfEnd(material);
    };
    const all = files === null ? [] : [files.cert, files.key, ...(files.clientCa === null ? [] : [files.clientCa])];
    const tls =
      files === null ? null : opened(await openReloaded('certificates', all, () => loadTls(files), events, taken));
    if (tls !== null) warnOfEnd(tls.current());
    const tokens = path === null ? null : opened(await openReloaded('tokens', [path], () => loadTokens(path), events));
    const audit = config.audit === null ? null : opened(await openAuditFile(config.audit));
    const isOpen = tokens === null && config.clients.length === 0;
    const told = (error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      events.emit({ type: 'api.audit_not_reopened', severity: 'error', object: null, message });
    };
    return {
      tls,
      onTls: (listener) => void listeners.push(listener),
      tokens,
      clients: config.clients,
      open: config.open,
      requests: isOpen ? null : openLimiter(config.requestsPerSecond, 2 * config.requestsPerSecond),
      failures: openLimiter(failures.perSecond, failures.burst),
      audit,
      events,
      reload: async () => {
        await Promise.all([tls?.reload(), tokens?.reload(), audit?.reopen().catch(told)]);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}
