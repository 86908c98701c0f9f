// SPDX-License-Identifier: 0BSD

/** What people copy: each file alone, offline, with the least permission. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { listening, Script } from "../lib/parts/process.ts";
import { freePort, temporaryFolder } from "./machine.ts";
import { CLIENT, expectUppercase, ROOT, SERVER } from "./pair.ts";

/** A server, its client, and what stands before the port that they are given. */
const PAIRS: Record<string, string[]> = {
  "the scripts": [SERVER, CLIENT, "--port"],
  "the short pair": ["server.ts", "client.ts"]
    .map((name) => join(ROOT, "lib/short", name)),
};

for (const [pair, [server, client, ...option]] of Object.entries(PAIRS)) {
  Deno.test(`${pair}, each alone in an empty folder, with an empty cache, no network and the narrowest permission: every byte of 3 MB`, async () => {
    await using stack = new AsyncDisposableStack();
    const port = `${freePort()}`;
    /** Copies a script into a folder of its own, and starts the copy there. */
    async function startAlone(script: string): Promise<Script> {
      const { path } = stack.use(await temporaryFolder());
      const copy = join(path, "copy.ts");
      await Deno.copyFile(script, copy);
      const address = `127.0.0.1:${port}`;
      return Script.start(copy, {
        cwd: path,
        permissions: ["--no-remote", "--no-npm", `--allow-net=${address}`],
        env: { DENO_DIR: join(path, "cache"), HOME: path },
        args: [...option, port],
      });
    }
    const { script } = stack.use(await listening(await startAlone(server)));
    const text = "perché no? ß 😀\n".repeat(160_000);
    await expectUppercase(await startAlone(client), text);
    script.kill();
    assert.equal((await script.exit()).stderr, "");
  });
}
