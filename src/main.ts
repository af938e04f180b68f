// SPDX-License-Identifier: Apache-2.0
// The command line, and what of Fairlead runs in this process. Parts are loaded when a command needs them: a client starts quickly.
import { runCli } from './cli/run.js';

const daemon = () => import('./daemon.js');
const lab = () => import('./lab/lab.js');
const tokens = () => import('./tokens.js');

process.exitCode = await runCli(process.argv.slice(2), {
  serve: async (path, flags) => (await daemon()).serve(path, flags),
  migrate: async (path, options) => {
    const { loadConfig } = await import('./controlplane/config.js');
    const { migrate } = await import('./controlplane/migrate.js');
    return migrate(loadConfig({ path, env: process.env, flags: {} }).store, options);
  },
  doctor: async (path) => {
    const { loadConfig } = await import('./controlplane/config.js');
    const { examine } = await import('./controlplane/doctor.js');
    const load = () => loadConfig({ path, env: process.env, flags: {} });
    return examine(
      await Promise.resolve()
        .then(load)
        .catch((error: Error) => error),
    );
  },
  agent: async (path) => (await import('./agent.js')).runAgent(path),
  detach: async (bpffs) => [
    ...(await import('./dataplane/dataplane.js')).detachAll(bpffs),
    ...(await (await import('./agent/agent.js')).detachAgent(bpffs)),
  ],
  token: {
    list: async (place) => (await tokens()).list(place),
    create: async (place, token) => (await tokens()).create(place, token),
    remove: async (place, name) => (await tokens()).remove(place, name),
  },
  lab: {
    up: async (options) => (await lab()).labUp(options),
    down: async (name) => (await lab()).labDown(name),
    run: async (options) => (await lab()).labRun(options),
    status: async (name) => (await lab()).labStatus(name),
  },
});
